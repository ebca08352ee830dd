"""Strengths are those with the highest rate on validation queries, from as many candidates for every method."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.journal import Journal
from alignvec.models import BaseModel
from alignvec.reproduce.methods.choose_strengths import choose_strengths
from alignvec.reproduce.methods.control_vectors import find_control_vectors
from alignvec.reproduce.methods.method import Goal
from alignvec.reproduce.methods.steering import Steering
from alignvec.reproduce.methods.strengths import Strengths
from alignvec.reproduce.stages.methods import Choices, show_choices
from alignvec.steer.sampling import Sampling
from tests.reproduce.methods.all_methods import some_rows
from tests.reproduce.methods.scripted_method import DOMAINS, LEVELS, ScriptedJudge, ScriptedMethod, scripted_rows

WORKS = {"avoidance": (-1.0,), "generic": (0.0, 0.5), "expert": (1.0, 2.0)}


def test_the_highest_rate_wins_and_of_equals_the_smallest(tiny: BaseModel, tmp_path: Path) -> None:
    rows, amounts = scripted_rows("validation"), (2.0, 1.0, 0.5)
    method = ScriptedMethod(tiny, {}, WORKS)
    choice = choose_strengths(
        method, rows, ScriptedJudge(), amounts=amounts, journal=Journal(tmp_path / "j"), batch_size=5
    )
    assert choice.strengths == {d: {"avoidance": -1.0, "generic": 0.0, "expert": 1.0} for d in DOMAINS}
    assert choice.replies == 3 * 3 * 3 * 4 and choice.queries == dict.fromkeys(DOMAINS, 4)
    assert len(choice.tried) == 27 and sum(method.calls) == choice.replies
    rates = {one.strength: one.rate.value for one in choice.tried if (one.domain, one.level) == ("legal", "expert")}
    assert rates == {2.0: 1.0, 1.0: 1.0, 0.5: 0.0}
    shown = show_choices(Choices(data="made up", choices=(choice,)), tmp_path)
    assert shown.tables[0].rows == (("scripted", *["-1 / 0 / 1"] * 3),)  # none is the furthest that was tried
    again = choose_strengths(
        method, rows, ScriptedJudge(), amounts=amounts, journal=Journal(tmp_path / "j"), batch_size=5
    )
    assert again == choice and sum(method.calls) == choice.replies  # nothing was said again


def test_a_strength_that_makes_replies_loop_wins_nothing(tiny: BaseModel) -> None:
    """At 2 all replies are of the level and loop, at 1 half of them are of the level."""

    class Looping(ScriptedMethod):
        def with_strengths(self, strengths: Strengths) -> "Looping":
            return Looping(self.base, strengths, self.works)

        def reply(self, queries: Sequence[str], goals: Sequence[Goal], sampling: Sampling) -> list[str]:
            return [self._said(query, goal) for query, goal in zip(queries, goals, strict=True)]

        def _said(self, query: str, goal: Goal) -> str:
            [(domain, level)] = goal.items()
            strength = abs(self.strength(domain, level))
            if strength == 2.0:
                return f"{level} again again again again again"
            return f"{level if strength == 1.0 and query[-2] in '01' else 'none'} it is then"

    choice = choose_strengths(
        Looping(tiny, {}, WORKS), scripted_rows("validation"), ScriptedJudge(), amounts=(2.0, 1.0), journal=Journal()
    )
    assert {levels["expert"] for levels in choice.strengths.values()} == {1.0}
    assert {levels["avoidance"] for levels in choice.strengths.values()} == {-1.0}
    own = [one for one in choice.tried if (one.domain, one.level) == ("medical", "expert")]
    assert {one.strength: (one.rate.value, one.degenerate.value) for one in own} == {2.0: (0.0, 1.0), 1.0: (0.5, 0.0)}


def test_the_furthest_strength_tried_is_marked(tiny: BaseModel, tmp_path: Path) -> None:
    method = ScriptedMethod(tiny, {}, WORKS)
    choice = choose_strengths(
        method, scripted_rows("validation"), ScriptedJudge(), amounts=(0.5, 1.0), journal=Journal()
    )
    shown = show_choices(Choices(data="made up", choices=(choice,)), tmp_path)
    assert shown.tables[0].rows == (("scripted", *["-1* / 0 / 1*"] * 3),)


def test_a_killed_search_goes_on(tiny: BaseModel, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(task: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 4:
            raise Killed

    calls: list[int] = []
    rows, method = scripted_rows("validation"), ScriptedMethod(tiny, {}, WORKS)
    with pytest.raises(Killed):
        choose_strengths(
            method, rows, ScriptedJudge(), amounts=(1.0, 2.0), journal=Journal(tmp_path / "j"), batch_size=5,
            advance=killed,
        )  # fmt: skip
    said = sum(method.calls)
    done: list[int] = []
    choice = choose_strengths(
        method, rows, ScriptedJudge(), amounts=(1.0, 2.0), journal=Journal(tmp_path / "j"), batch_size=5,
        advance=lambda _, n, total: done.append(n),
    )  # fmt: skip
    assert 0 < said < choice.replies == sum(method.calls) == sum(done)


def test_test_rows_and_bad_amounts_are_refused(tiny: BaseModel) -> None:
    method = ScriptedMethod(tiny, {}, WORKS)
    with pytest.raises(DataError, match="validation rows alone"):
        choose_strengths(method, scripted_rows("test"), ScriptedJudge(), amounts=(1.0,), journal=Journal())
    for amounts in ((), (0.0,), (float("nan"),), (float("inf"),)):
        with pytest.raises(DataError, match="positive"):
            choose_strengths(method, scripted_rows("validation"), ScriptedJudge(), amounts=amounts, journal=Journal())


def test_every_method_has_as_many_candidates(tiny: BaseModel) -> None:
    amounts = (0.5, 1.0, 1.5, 2.0)
    steering = Steering(tiny, find_control_vectors(tiny, some_rows()), {})
    scripted = ScriptedMethod(tiny, {}, WORKS)
    for level in LEVELS:
        assert len(steering.candidates(LEVELS, level, amounts)) == len(scripted.candidates(LEVELS, level, amounts)) == 4
    assert steering.candidates(LEVELS, "avoidance", amounts) == amounts
    assert steering.candidates(LEVELS, "generic", amounts) == (0.0, 0.5, 1.0, 1.5)
    assert scripted.candidates(LEVELS, "avoidance", amounts) == (-0.5, -1.0, -1.5, -2.0)
    with pytest.raises(ConfigError, match="no strength for medical=expert"):
        scripted.strengths_of({"medical": "expert"})
