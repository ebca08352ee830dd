"""What was solved, as tables, JSON and a YAML file of settings that other commands read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml
from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.evaluate.judge import JudgeReport
from alignvec.files import write_text
from alignvec.provenance import Provenance, provenance
from alignvec.solve.goals import REACHED
from alignvec.solve.measure import Meter
from alignvec.solve.seconds import SolveSeconds
from alignvec.solve.solver import Kind, SolvedGoal, Solver
from alignvec.solve.surface import Fit
from alignvec.vectors.card import Card
from alignvec.vectors.strict import Interval

VERDICT = f"{REACHED:g}"
SETTING_WIDTH = 17
"""Columns of a table that λ of three knobs take; three domains fill the others of 80."""


class Solution(Record):
    """Everything that `solve.json` holds.

    Attributes:
        by: what the rates are of.
        data: the queries that it was solved on.
        box: range of each knob.
        domains: domain of each knob.
        levels: lowest first.
        routed: whether the settings are for a model with a router.
        evaluations: number of settings that were measured on the model, the base included.
        fit: how well the surface fits.
        judge: the judge's own accuracy; None if nothing was generated.
        goals: one entry a goal.
        seconds: what it took; None in files written before it was kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Kind
    data: str
    box: dict[str, tuple[float, float]]
    domains: dict[str, str]
    levels: tuple[str, ...]
    routed: bool
    evaluations: int
    fit: Fit
    judge: JudgeReport | None
    goals: tuple[SolvedGoal, ...]
    sampling: dict[str, Any]
    seconds: SolveSeconds | None = None
    provenance: Provenance

    def summary(self) -> str:
        """One line for people."""
        told = reached_counts([goal.reached for goal in self.goals])
        return (
            f"{told} (wanted level the most frequent in every domain, with at "
            f"least this rate, on {self.data}); {self.evaluations} settings measured; surface: left-out error "
            f"{self.fit.left_out_error:.3f} nats a token of a spread of {self.fit.spread:.3f}"
            " (near 0: good; near the spread: it knows nothing)"
        )


def solution_of(solver: Solver, meter: Meter, goals: Sequence[SolvedGoal], *, cards: Mapping[str, Card]) -> Solution:
    """What a solver has found, with all that it was found with.

    Args:
        solver: after `solve`.
        meter: that it measured with.
        goals: what `solve` returned.
        cards: of the vectors, by the names of their knobs.
    """
    behaviour, _ = solver.fitted()
    return Solution(
        by=solver.by,
        data=meter.data,
        box={axis.name: (axis.low, axis.high) for axis in meter.box.axes},
        domains={name: card.domain or name for name, card in cards.items()},
        levels=meter.levels,
        routed=solver.shares is not None,
        evaluations=solver.evaluations,
        fit=behaviour.surface.fit,
        judge=meter.judge.report if meter.judge else None,
        goals=tuple(goals),
        sampling=meter.sampling.model_dump(),
        seconds=SolveSeconds(
            scoring=meter.scoring, generating=meter.generating, fitting=solver.fitting, searching=solver.searching
        ),
        provenance=provenance(),
    )


def reached_counts(verdicts: Sequence[Mapping[str, bool]]) -> str:
    """How many goals are reached at each threshold, in words."""
    told = ", ".join(f"{sum(one[t] for one in verdicts)} at {t}" for t in verdicts[0])
    return f"reached of {len(verdicts)} goals: {told}"


def name_of(goal: Mapping[str, str]) -> str:
    """A goal as it is named in files and tables."""
    return ",".join(f"{domain}={level}" for domain, level in goal.items())


def rows_of(solution: Solution) -> tuple[Sequence[str], Sequence[Sequence[str]], str]:
    """Columns, rows and legend of the table: see `goal_columns`, then spillover and verdict."""
    names, domains = list(solution.box), list(solution.goals[0].goal)
    rows = [
        (
            *goal_cells(solved.goal, solved.knobs, solved.measured, domains, names),
            f"{100 * elsewhere(solved, solution.domains):.0f}",
            "yes" if solved.reached[VERDICT] else "no",
        )
        for solved in solution.goals
    ]
    counted = "generated" if solution.by == "level" else "likeliest"
    legend = f"rate: {counted} replies at that level; spill: points a knob moves other domains"
    if any(solved.perplexity is not None for solved in solution.goals):
        legend += "\nperplexity: of the texts outside the domains (--text), over the base's"
    return (*goal_columns(domains, names), "spill", f"met at\n{VERDICT}"), rows, legend


def goal_columns(domains: Sequence[str], knobs: Sequence[str]) -> tuple[str, ...]:
    """Headers of `goal_cells`: each domain, and λ with the knobs in the order in which theirs stand."""
    return (*(f"{domain}\nlevel, rate" for domain in domains), fill(f"λ: {' '.join(knobs)}", SETTING_WIDTH))


def goal_cells(
    goal: Mapping[str, str],
    knobs: Mapping[str, float],
    measured: Mapping[str, Mapping[str, Interval]],
    domains: Sequence[str],
    names: Sequence[str],
) -> tuple[str, ...]:
    """A goal's row: the wanted level of each domain with its measured rate, and the setting.

    Args:
        goal: domain to wanted level.
        knobs: the setting.
        measured: domain to level to rate.
        domains: of the columns; one that the goal does not name has a dash.
        names: of the knobs.
    """
    levels = (f"{goal[d]} {measured[d][goal[d]].value:.2f}" if d in goal else "-" for d in domains)
    return (*levels, " ".join(f"{knobs.get(name, 0.0):5.2f}" for name in names))


def elsewhere(solved: SolvedGoal, domains: Mapping[str, str]) -> float:
    """Mean absolute change of preference rates by the setting's knobs in domains that are not theirs; 0 at the base.

    Args:
        domains: of each knob.
    """
    sizes = [size for knob, row in solved.spillover.items() for d, size in row.items() if d != domains[knob]]
    return sum(sizes) / len(sizes) if sizes else 0.0


def settings_text(solution: Solution) -> str:
    """The YAML file: goal to knobs, verdict and what blocks it."""
    settings = {
        name_of(solved.goal): {
            "knobs": solved.knobs,
            "reached": solved.reached[VERDICT],
            **({"constraints": solved.constraints} if solved.constraints else {}),
            "spillover": round(elsewhere(solved, solution.domains), 3),
            "rates": {d: round(solved.measured[d][level].value, 3) for d, level in solved.goal.items()},
            **({"blocked_by": solved.blocked_by} if solved.blocked_by else {}),
        }
        for solved in solution.goals
    }
    with_router = " and --router" if solution.routed else ""
    head = (
        f"# alignvec solve on {solution.data}, by {solution.by}; use a setting with --knob '@FILE#GOAL'{with_router}\n"
    )
    return head + yaml.safe_dump({"routed": solution.routed, "settings": settings}, sort_keys=False, allow_unicode=True)


def write_solution(solution: Solution, out: Path) -> None:
    """Write solve.json and settings.yaml into a folder, each atomically.

    Raises:
        StorageError: if it cannot be written.
    """
    write_text(out / "solve.json", solution.model_dump_json(indent=1) + "\n")
    write_text(out / "settings.yaml", settings_text(solution))
