"""Joint training: one DPO run over all domains for each goal (the paper's retraining baseline)."""

import json
from pathlib import Path

from alignvec.errors import ConfigError
from alignvec.evaluate.table import Table
from alignvec.reproduce.material import joint_recipes, recipe_folder, train_by_recipe
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Section, Stage
from alignvec.train.config import load_recipe
from alignvec.vectors.strict import Strict


class JointRun(Strict):
    """A finished run.

    Attributes:
        recipe: its name.
        goal: domain to level.
        seconds: of its optimiser steps; None if a part of them was not timed.
    """

    recipe: str
    goal: dict[str, str]
    rows: int
    steps: int
    tokens: int
    epochs: float
    seconds: float | None
    machine: str


class JointRuns(Strict):
    """What the stage has found."""

    runs: tuple[JointRun, ...]


def measure(place: Place) -> JointRuns:
    """Train what is not trained yet."""
    recipes = joint_recipes(place)
    if not recipes:
        raise ConfigError(f"no recipes of joint training in {place.scale.recipes / 'joint'}; see recipes/joint")
    for recipe in recipes:
        if set(load_recipe(recipe).goal or {}) != set(place.scale.domains):
            raise ConfigError(f"the joint recipe {recipe} has a goal for other domains than the scale's; mend either")
    runs = []
    for recipe in recipes:
        folder = train_by_recipe(place, recipe)
        record = json.loads((folder.parent / "positive" / "run.json").read_text(encoding="utf-8"))
        runs.append(
            JointRun(
                recipe=recipe.stem,
                goal=record["config"]["goal"],
                rows=record["rows"],
                steps=record["steps"],
                tokens=record["tokens"],
                epochs=record["config"]["epochs"],
                seconds=record["seconds"],
                machine=record["provenance"]["machine"],
            )
        )
    return JointRuns(runs=tuple(runs))


def show(found: JointRuns, figures: Path) -> Section:
    """A row a run."""
    return Section(
        text=(
            "The three goals form a Latin square: every level of every domain is wanted once. A joint run sees the "
            "rows of all domains, each with its own order, and makes one model for one goal.",
        ),
        tables=(
            Table(
                title="joint runs",
                columns=("goal", "rows", "passes", "steps", "tokens", "seconds"),
                rows=tuple(
                    (
                        " ".join(f"{domain}={level}" for domain, level in run.goal.items()),
                        f"{run.rows}", f"{run.epochs:g}", f"{run.steps}", f"{run.tokens}",
                        "-" if run.seconds is None else f"{run.seconds:.0f}",
                    )
                    for run in found.runs
                ),
            ),
        ),
    )  # fmt: skip


STAGE = Stage(
    name="joint",
    title="Joint training for one goal",
    record=JointRuns,
    measure=measure,
    show=show,
    keys=("training",),
    reads=joint_recipes,
    makes=lambda place: [recipe_folder(place, recipe) for recipe in joint_recipes(place)],
)
