"""Solved settings on queries that they were not chosen on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import JudgeReport, LevelJudge
from alignvec.evaluate.scope import scope_of
from alignvec.files import write_text
from alignvec.provenance import Provenance
from alignvec.solve.goals import Goal, parse_constraints, parse_goals
from alignvec.solve.report import VERDICT, goal_cells, goal_columns, reached_counts
from alignvec.solve.search import misses, reached
from alignvec.solve.solver import THRESHOLDS, rate_intervals
from alignvec.steer.knobs import Knobs, format_knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import row_shares, turn_by
from alignvec.steer.router import Router
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval


class CheckedGoal(Record):
    """A goal's setting on held-out queries.

    Attributes:
        goal: domain to wanted level.
        knobs: the setting.
        measured: domain to level to rate of generated replies, with 95 % intervals over personas.
        reached: threshold to whether every wanted level has the highest rate and at least that one, and the bounds on
            rates are kept.
        unchecked: bounds on perplexity, which is not measured here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    goal: dict[str, str]
    knobs: dict[str, float]
    unchecked: list[str]
    measured: dict[str, dict[str, Interval]]
    reached: dict[str, bool]


class Check(Record):
    """Everything that `check.json` holds.

    Attributes:
        data: the queries.
        routed: whether a router turned the knobs for each prompt.
        solved_routed: whether the settings were solved for a model with a router; None if their file does not say.
        judge: the judge's own accuracy.
        replies: number of different replies that were generated for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    routed: bool
    solved_routed: bool | None
    judge: JudgeReport
    replies: int
    goals: tuple[CheckedGoal, ...]
    sampling: dict[str, Any]
    provenance: Provenance

    def summary(self) -> str:
        """One line for people."""
        told = reached_counts([goal.reached for goal in self.goals])
        return f"{told} (wanted level the most frequent in every domain, with at least this rate, on {self.data})"


def check_settings(
    model: KnobbedModel,
    rows: Sequence[PreferenceRow],
    settings: Mapping[str, Knobs],
    constraints: Mapping[str, Sequence[str]],
    judge: LevelJudge,
    sampling: Sampling,
    *,
    router: Router | None = None,
    data: str,
    out: Path | None = None,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[list[CheckedGoal], int]:
    """Generate replies at every setting and count their levels.

    Args:
        model: with the vectors.
        rows: queries of the goals' domains.
        settings: goal, as `medical=expert,legal=avoidance`, to knobs.
        constraints: goal to the bounds that it was solved under.
        judge: gives replies their level.
        sampling: how replies are decoded.
        router: turns the knobs for each query, if there is one.
        data: name of the data, for the journal.
        out: folder of the journal that a killed run goes on from.
        advance: called with a task's name, what was done and the total.

    Returns:
        The goals, and the number of different replies.

    Raises:
        ConfigError: if a goal names a domain or level that the rows lack, or a setting a vector that is not loaded.
    """
    domains, levels = tuple(dict.fromkeys(row.domain for row in rows)), levels_of(rows)
    goals = [
        replace(
            parse_goals([name], domains, levels),
            constraints=parse_constraints(constraints.get(name, ()), domains, levels),
        )
        for name in settings
    ]
    names = sorted({name for knobs in settings.values() for name in knobs})
    if unknown := sorted(set(names) - model.vectors.keys()):
        raise ConfigError(f"the settings turn {unknown[0]!r}, which is not loaded (have: {', '.join(model.vectors)})")
    acting = row_shares(router, model, [row.query for row in rows], names) if router and names else None
    journal = Journal(out / "journal.jsonl" if out else None, scope_of(model, names, sampling, data, rows))
    told: set[tuple[int, str]] = set()

    routed = turn_by(names, acting)

    def turn(row: int, knobs: Knobs) -> Knobs:
        turned = routed(row, knobs)
        told.add((row, format_knobs(turned)))
        return turned

    count = len(rows) * len(settings)
    columns = generate_replies(
        model, rows, list(settings.values()), sampling,
        journal=journal, turn=turn, batch_size=48, advance=lambda n: advance("generating", n, count),
    )  # fmt: skip
    checked = [
        _checked(goal, knobs, rows, levels, judge.verdicts(replies))
        for goal, knobs, replies in zip(goals, settings.values(), columns, strict=True)
    ]
    return checked, len(told)


def _checked(
    goal: Goal, knobs: Knobs, rows: Sequence[PreferenceRow], levels: tuple[str, ...], verdicts: Sequence[str]
) -> CheckedGoal:
    said: npt.NDArray[np.int64] = np.array([levels.index(level) for level in verdicts])
    measured = rate_intervals(rows, said, levels)
    rates = np.array([[measured[domain][level].value for level in levels] for domain in measured])
    bounds = replace(goal, constraints=tuple(one for one in goal.constraints if one.domain is not None))
    kept = bool(misses(rates[None], bounds, tuple(measured), levels)[0] <= 0)
    return CheckedGoal(
        goal=dict(goal.wanted),
        knobs=dict(knobs),
        measured=measured,
        unchecked=[str(one) for one in goal.constraints if one.domain is None],
        reached={f"{t:g}": kept and reached(rates, goal, tuple(measured), levels, t) for t in THRESHOLDS},
    )


def write_check(check: Check, out: Path) -> None:
    """Write check.json, atomically, and goals.png.

    Raises:
        StorageError: if one cannot be written.
    """
    from alignvec.solve.plot import plot_goals

    write_text(out / "check.json", check.model_dump_json(indent=1) + "\n")
    plot_goals(check.goals, out / "goals.png", title=f"{check.data}{', routed' if check.routed else ''}")


def table_of(check: Check) -> tuple[Sequence[str], Sequence[Sequence[str]], str]:
    """Columns, rows and legend: see `goal_columns`, then the verdict."""
    names = sorted({name for one in check.goals for name in one.knobs})
    domains = list(dict.fromkeys(domain for one in check.goals for domain in one.goal))
    rows = [
        (
            *goal_cells(one.goal, one.knobs, one.measured, domains, names),
            "yes" if one.reached[VERDICT] else "no",
        )
        for one in check.goals
    ]
    legend = "rate: generated replies at that level"
    return (*goal_columns(domains, names), f"met at\n{VERDICT}"), rows, legend
