"""What is kept of solved goals: the file of settings, the JSON and the line for people."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alignvec.provenance import provenance
from alignvec.solve.report import Solution, elsewhere, name_of, settings_text, solution_of, write_solution
from alignvec.solve.seconds import Phase
from alignvec.solve.solver import SolvedGoal, Solver
from alignvec.solve.surface import Fit
from alignvec.steer.sampling import Sampling
from alignvec.steer.solved import read_setting, read_settings, solved_routed
from alignvec.vectors.strict import Interval
from tests.conftest import MakeVector
from tests.solve.synthetic import BOX, LEVELS, RuleMeter


def rate(value: float) -> Interval:
    return Interval(value=value, low=0.0, high=1.0)


def solved(reached: bool, **more: Any) -> SolvedGoal:
    given: dict[str, Any] = {
        "goal": {"medical": "expert", "legal": "generic"},
        "constraints": [],
        "knobs": {"medical": 0.75},
        "predicted": {},
        "measured": {d: {"generic": rate(0.65432), "expert": rate(0.91)} for d in ("medical", "legal")},
        "perplexity": None,
        "kept": True,
        "reached": {"0.5": True, "0.6": reached, "0.7": False},
        "spillover": {"m": {"medical": 0.9, "legal": 0.25}, "l": {"medical": 0.125, "legal": 0.5}},
    }
    return SolvedGoal.model_validate(given | more)


def solution(*goals: SolvedGoal, routed: bool = False) -> Solution:
    return Solution(
        by="level", data="medical validation", box={"m": (-1.0, 1.0), "l": (-1.0, 1.0)},
        domains={"m": "medical", "l": "legal"}, levels=LEVELS, routed=routed, evaluations=31,
        fit=Fit(3, 0.1, 30, 0.0123, 0.4567), judge=None, goals=goals, sampling={}, provenance=provenance(),
    )  # fmt: skip


def test_spillover_elsewhere_is_a_mean_over_the_knobs_other_domains() -> None:
    domains = {"m": "medical", "l": "legal"}
    assert elsewhere(solved(True), domains) == pytest.approx((0.25 + 0.125) / 2)
    assert elsewhere(solved(True), {"m": "medical", "l": "tax"}) == pytest.approx((0.25 + 0.125 + 0.5) / 3)
    assert elsewhere(solved(True, spillover={}), domains) == 0.0


@pytest.mark.parametrize("routed", [False, True])
def test_a_file_of_settings_is_read_back_as_knobs(tmp_path: Path, routed: bool) -> None:
    other = {"goal": {"medical": "generic"}, "knobs": {"medical": -0.125, "legal": 0.5}}
    blocked = solved(False, **other, constraints=["legal>=0.9"], blocked_by="the constraints: λ")
    write_solution(made := solution(solved(True), blocked, routed=routed), tmp_path)
    path = tmp_path / "settings.yaml"
    assert solved_routed(path) is routed
    found = read_settings(path)
    assert list(found) == ["medical=expert,legal=generic", "medical=generic"]
    assert [one.reached for one in found.values()] == [True, False]
    assert [one.constraints for one in found.values()] == [[], ["legal>=0.9"]]
    assert [one.blocked_by for one in found.values()] == [None, "the constraints: λ"]
    assert read_setting(f"{path}#medical=generic") == {"medical": -0.125, "legal": 0.5}
    text = path.read_text()
    assert text == settings_text(made) and text.startswith("# alignvec solve on medical validation, by level; ")
    assert text.splitlines()[0].endswith(f"use a setting with --knob '@FILE#GOAL'{' and --router' if routed else ''}")
    assert "spillover: 0.188" in text and "medical: 0.91" in text and "legal: 0.654" in text
    assert Solution.model_validate_json((tmp_path / "solve.json").read_bytes()) == made


def test_the_line_for_people_counts_goals_at_each_threshold() -> None:
    told = solution(solved(True), solved(False)).summary()
    assert told.startswith("reached of 2 goals: 2 at 0.5, 1 at 0.6, 0 at 0.7 (")
    for part in ("on medical validation", "31 settings measured", "left-out error 0.012 nats", "spread of 0.457"):
        assert part in told
    assert name_of({"medical": "expert", "legal": "generic"}) == "medical=expert,legal=generic"


@pytest.mark.parametrize("routed", [False, True])
def test_a_solution_has_what_it_was_found_with(
    make_vector: MakeVector, monkeypatch: pytest.MonkeyPatch, routed: bool
) -> None:
    fit = Fit(2, 0.01, 21, 0.25, 0.5)
    monkeypatch.setattr(Solver, "fitted", lambda _: (SimpleNamespace(surface=SimpleNamespace(fit=fit)), None))
    meter: Any = RuleMeter()
    meter.data, meter.levels, meter.judge, meter.sampling = "here", LEVELS, None, Sampling(seed=9)
    meter.scoring, meter.generating = Phase(seconds=2.0, made=4), Phase(seconds=3.0, made=5)
    solver = Solver(meter, by="preference", shares=np.ones((40, 2)) if routed else None)
    solver.explore(20, seed=0)
    solver.fitting, solver.searching, goals = 1.5, 2.5, [solved(True)]
    cards = {
        "medical": make_vector("medical").card,
        "legal": make_vector("legal").card.model_copy(update={"domain": None}),
    }
    found = solution_of(solver, meter, goals, cards=cards)
    assert (found.by, found.data, found.levels, found.routed, found.judge) == (
        "preference",
        "here",
        LEVELS,
        routed,
        None,
    )
    assert found.box == {axis.name: (axis.low, axis.high) for axis in BOX.axes}
    assert found.domains == {"medical": "medical", "legal": "legal"}
    assert found.goals == tuple(goals) and found.evaluations == solver.evaluations
    assert found.fit == fit and found.sampling["seed"] == 9
    seconds = found.seconds
    assert seconds is not None and (seconds.scoring, seconds.generating) == (meter.scoring, meter.generating)
    assert (seconds.fitting, seconds.searching) == (1.5, 2.5)
