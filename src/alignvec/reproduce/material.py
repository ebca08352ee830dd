"""What stages work on: rows, vectors, stages, a router; made when first needed.

What is made lies in a folder whose name tells what it was made from (recipe, changes, base, data), so that another
recipe or seed never finds it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from alignvec.data.load import load_rows, shipped_file
from alignvec.data.safety import SAFETY
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError
from alignvec.evaluate.judge import LevelJudge, judge_for
from alignvec.files import storage_errors
from alignvec.models import BaseModel, load
from alignvec.reproduce.place import Place, contents
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import Router, load_router, save_router
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_vector
from alignvec.vectors.vector import AlignmentVector

Held = Literal["validation", "test"]
StageName = Literal["safety", "sft"]


def held_out(place: Place, split: Held, *, outside: bool = False) -> list[PreferenceRow]:
    """Rows of every domain, and with `outside` of no domain, as many as the scale asks for."""
    limit = place.scale.validation if split == "validation" else place.scale.test
    names = (*place.scale.domains, *(("general",) if outside else ()))
    return [row for name in names for row in load_rows(shipped_file(name), split=split, limit=limit)]


def spoken(place: Place, rows: Sequence[PreferenceRow]) -> list[PreferenceRow]:
    """Those rows that replies are generated for."""
    return first_of_each(rows, place.scale.spoken)


def first_of_each(rows: Sequence[PreferenceRow], count: int | None) -> list[PreferenceRow]:
    """The first rows of each domain; None: all."""
    domains = dict.fromkeys(row.domain for row in rows)
    return [row for domain in domains for row in [one for one in rows if one.domain == domain][:count]]


def level_judge(place: Place) -> LevelJudge:
    """The judge of generated replies."""
    return judge_for(*(shipped_file(domain) for domain in place.scale.domains))


def vector_sources(place: Place) -> list[Path]:
    """What the domains' vectors depend on: their own files, or the recipes that train them."""
    if place.scale.vectors:
        return [place.scale.vectors / domain for domain in place.scale.domains]
    return [place.scale.recipes / f"{domain}.yaml" for domain in place.scale.domains]


def vector_folder(place: Place, domain: str) -> Path:
    """Folder of a domain's hinged vector; without ready ones it is trained by the domain's recipe."""
    if place.scale.vectors:
        return place.scale.vectors / domain
    return train_by_recipe(place, place.scale.recipes / f"{domain}.yaml")


def recipe_folder(place: Place, recipe: Path, *, stage: StageName | None = None) -> Path:
    """Folder of the runs of a recipe on the base, or on another stage of it."""
    made_from = [recipe, *(shipped_file(domain) for domain in place.scale.domains), SAFETY]
    if stage:
        made_from.append(stage_recipe(place, stage))
    name = f"{recipe.stem}{f'-on-{stage}' if stage else ''}"
    return made_folder(
        place, name, [place.scale.base, place.scale.seed, place.scale.training, stage, contents(made_from)]
    )


def made_folder(place: Place, name: str, made_from: Sequence[Any]) -> Path:
    """Folder of what is made, named after what it is made from, as JSON values."""
    return place.work(f"{name}-{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:8]}")


def train_by_recipe(place: Place, recipe: Path, *, stage: StageName | None = None) -> Path:
    """Train what a recipe names on the base, or on another stage of it, with the scale's changes; returns the vector.

    Another process that trains the same is waited for.
    """
    folder = recipe_folder(place, recipe, stage=stage)
    with once(folder):
        if not (folder / "vector" / "card.json").is_file():
            from alignvec.train.config import load_recipe
            from alignvec.train.vector import train_vector

            base = other_stage(place, stage) if stage else place.base_folder
            train_vector(load_recipe(recipe, base=base, **_changes(place)), folder)
    return folder / "vector"


def stage_recipe(place: Place, name: StageName) -> Path:
    """Recipe of the model that another stage is."""
    return place.scale.recipes / ("safety.yaml" if name == "safety" else "stages/sft.yaml")


def other_stage(place: Place, name: StageName) -> str:
    """Model folder of another fine-tuning stage of the base.

    `safety` is the base with the safety vector at λ = 1, `sft` the base after supervised fine-tuning.
    """
    from alignvec.train.stage import write_stage

    vector = train_by_recipe(place, stage_recipe(place, name))
    folder = vector.parent / "stage"
    with once(folder):
        write_stage(vector, folder, base=place.base_folder)
    return str(folder)


def stage_name(place: Place, name: StageName) -> str:
    """What another stage is called in results, wherever it lies."""
    return f"{place.scale.base} + {stage_recipe(place, name).stem}"


def load_stage(place: Place, name: StageName) -> BaseModel:
    """The model of another stage, under its name."""
    return replace(load(other_stage(place, name), dtype=place.scale.dtype), name=stage_name(place, name))


def safety_vector(place: Place) -> Path:
    """Folder of the safety vector."""
    return train_by_recipe(place, stage_recipe(place, "safety"))


def native_vector(place: Place, stage: StageName, domain: str) -> Path:
    """Folder of a domain's vector trained on another stage by the same recipe."""
    return train_by_recipe(place, place.scale.recipes / f"{domain}.yaml", stage=stage)


def joint_recipes(place: Place) -> list[Path]:
    """Recipes of joint training."""
    return sorted((place.scale.recipes / "joint").glob("*.yaml"))


def domain_vectors(place: Place) -> list[AlignmentVector]:
    """The hinged vector of every domain."""
    return [load_vector(vector_folder(place, domain)) for domain in place.scale.domains]


def knobbed(place: Place, vectors: Sequence[AlignmentVector]) -> KnobbedModel:
    """The base with vectors."""
    return KnobbedModel(place.base, vectors)


def router_of(place: Place) -> Router:
    """The scale's router, or one trained on the shipped prompts."""
    from alignvec.solve.routing import FURTHER

    prompts = contents([*(shipped_file(domain) for domain in place.scale.domains), *FURTHER])
    folder = place.scale.router or place.work(f"router-{place.scale.seed}-{prompts[:8]}")
    with once(place.work("router")):
        if not place.scale.router and not (folder / "router.json").is_file():
            save_router(_trained_router(place), folder)
    return load_router(folder, fingerprint(place.base.folder))


def _trained_router(place: Place) -> Router:
    from alignvec.solve.routing import FURTHER, Prompt, load_prompts, train_router

    def asked(split: str) -> list[Prompt]:
        rows = [row for domain in place.scale.domains for row in load_rows(shipped_file(domain), split=split)]
        own = [Prompt(row.query, frozenset([row.domain])) for row in rows]
        return own + [prompt for path in FURTHER for prompt in load_prompts(path, split)]

    router, _ = train_router(place.base, place.scale.domains, asked("train"), asked("validation"))
    return router


def _changes(place: Place) -> dict[str, object]:
    if "seed" in place.scale.training:
        raise ConfigError("the scale's `training` names a seed; the scale's own `seed` is that of training too")
    return {"seed": place.scale.seed, **place.scale.training}


@contextmanager
def once(folder: Path) -> Iterator[None]:
    """Let one process at a time make a folder; others wait."""
    lock = folder.with_name(f"{folder.name}.lock")
    with storage_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield
