"""Seconds of a solution, with a clock that counts."""

from pathlib import Path

import numpy as np
import pytest

from alignvec import models
from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import train_judge
from alignvec.solve.box import box_of
from alignvec.solve.goals import all_goals
from alignvec.solve.measure import Meter
from alignvec.solve.seconds import Phase, SolveSeconds
from alignvec.solve.solver import Solver
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from tests.conftest import MakeVector
from tests.solve.synthetic import DOMAINS, LEVELS, RuleMeter


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_what_a_journal_had_counts_at_the_pace_of_the_rest() -> None:
    assert Phase(seconds=6.0, made=3).whole == 6.0
    assert Phase(seconds=6.0, made=3, reused=1).whole == 8.0
    assert Phase(seconds=0.1, reused=4).whole is None
    assert Phase().whole == 0.0
    both = Phase(seconds=6.0, made=3) + Phase(seconds=1.0, made=1, reused=2)
    assert both == Phase(seconds=7.0, made=4, reused=2)
    made = SolveSeconds(scoring=Phase(seconds=2.0, made=1, reused=1), generating=both, fitting=1.0, searching=1.0)
    assert made.evaluations == 4.0 + 10.5
    assert made.model_copy(update={"scoring": Phase(reused=1)}).evaluations is None


def test_a_journal_counts_what_it_was_given_and_what_it_had(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j.jsonl")
    first.add("a", 1)
    assert (first["a"], first.added, first.reused) == (1, 1, 0), "its own, not another's"
    second = Journal(tmp_path / "j.jsonl")
    second.add("b", 2)
    assert (second["a"], second["a"], second["b"]) == (1, 1, 2)
    assert (second.added, second.reused) == (1, 1)


def test_a_meter_tells_scoring_from_generating_and_made_from_found(
    tiny: models.BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    vector = make_vector("medical")
    judge = train_judge(rows[:8], rows[12:], tuple(rows[0].responses))

    def meter() -> Meter:
        return Meter(
            KnobbedModel(tiny, [vector]), box_of({"medical": vector.card}), rows[8:12], judge=judge,
            sampling=Sampling(max_new_tokens=3), data="tiny", journal=tmp_path / "journal.jsonl", clock=Ticks(),
        )  # fmt: skip

    first = meter()
    first.measure(np.array([[0.5]]))
    assert first.scoring == Phase(seconds=1.0, made=8), "four rows, at the setting and at the base"
    assert first.generating == Phase(seconds=1.0, made=4)
    first.measure(np.array([[0.5], [-0.5]]))
    assert first.scoring == Phase(seconds=2.0, made=12) and first.generating == Phase(seconds=2.0, made=8)
    second = meter()
    second.measure(np.array([[0.5], [1.0]]))
    assert second.scoring == Phase(seconds=1.0, made=4, reused=8)
    assert second.generating == Phase(seconds=1.0, made=4, reused=4) and second.generating.whole == 2.0


def test_a_solver_times_fits_and_searches_apart() -> None:
    solver = Solver(RuleMeter(), clock=Ticks())
    solver.explore(30, seed=0)
    assert (solver.fitting, solver.searching) == (0.0, 0.0)
    solver.solve(all_goals(DOMAINS, LEVELS)[:2], rounds=0)
    assert (solver.fitting, solver.searching) == (1.0, 1.0)
    with pytest.raises(TypeError):
        Solver(RuleMeter(), fitting=1.0)  # type: ignore[call-arg]
