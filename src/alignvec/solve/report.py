"""What was solved, as tables, JSON and a YAML file of settings that other commands read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.files import write_text
from alignvec.provenance import Provenance
from alignvec.solve.goals import REACHED
from alignvec.solve.solver import Kind, SolvedGoal
from alignvec.solve.surface import Fit
from alignvec.steer.knobs import format_knobs

VERDICT = f"{REACHED:g}"


class Solution(Record):
    """Everything that `solve.json` holds.

    Attributes:
        by: what the rates are of.
        data: the queries that it was solved on.
        box: range of each knob.
        levels: lowest first.
        evaluations: number of settings that were measured on the model, the base included.
        fit: how well the surface fits.
        goals: one entry a goal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Kind
    data: str
    box: dict[str, tuple[float, float]]
    levels: tuple[str, ...]
    evaluations: int
    fit: Fit
    goals: tuple[SolvedGoal, ...]
    sampling: dict[str, Any]
    provenance: Provenance

    def summary(self) -> str:
        """One line for people."""
        counts = {t: sum(goal.reached[t] for goal in self.goals) for t in self.goals[0].reached}
        told = ", ".join(f"{count} at {threshold}" for threshold, count in counts.items())
        return (
            f"reached of {len(self.goals)} goals: {told} (wanted level the most frequent in every domain, with at "
            f"least this rate, on {self.data}); {self.evaluations} settings measured; surface: left-out error "
            f"{self.fit.left_out_error:.3f} nats a token of a spread of {self.fit.spread:.3f}"
        )


def name_of(goal: Mapping[str, str]) -> str:
    """A goal as it is named in files and tables."""
    return ",".join(f"{domain}={level}" for domain, level in goal.items())


def rows_of(solution: Solution) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Columns and rows of the table: goal, setting, measured rate of every wanted level, verdict."""
    rows = []
    for solved in solution.goals:
        rates = [solved.measured[d][level] for d, level in solved.goal.items()]
        told = " ".join(f"{r.value:.2f} [{r.low:.2f},{r.high:.2f}]" for r in rates)
        verdict = "reached" if solved.reached[VERDICT] else "no"
        rows.append((" ".join(solved.goal.values()), format_knobs(solved.knobs), told, verdict))
    return (" ".join(solution.goals[0].goal), "setting", "measured rate of each wanted level", f"at {VERDICT}"), rows


def settings_text(solution: Solution) -> str:
    """The YAML file: goal to knobs, verdict and what blocks it."""
    settings = {
        name_of(solved.goal): {
            "knobs": solved.knobs,
            "reached": solved.reached[VERDICT],
            "rates": {d: round(solved.measured[d][level].value, 3) for d, level in solved.goal.items()},
            **({"blocked_by": solved.blocked_by} if solved.blocked_by else {}),
        }
        for solved in solution.goals
    }
    head = f"# alignvec solve on {solution.data}, by {solution.by}; use a setting with --knob '@FILE#GOAL'\n"
    return head + yaml.safe_dump({"settings": settings}, sort_keys=False, allow_unicode=True)


def write_solution(solution: Solution, out: Path) -> None:
    """Write solve.json and settings.yaml into a folder, each atomically.

    Raises:
        StorageError: if it cannot be written.
    """
    write_text(out / "solve.json", solution.model_dump_json(indent=1) + "\n")
    write_text(out / "settings.yaml", settings_text(solution))
