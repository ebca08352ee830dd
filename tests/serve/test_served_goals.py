"""Goals that stand where knobs stand."""

from typing import Any

import pytest

from alignvec.errors import ConfigError
from alignvec.serve.errors import BadRequestError
from alignvec.serve.goals import check_goals, with_goals
from alignvec.serve.policy.rules import Rules
from alignvec.steer.scale import Scale
from alignvec.steer.solved import SolvedSetting

SCALES = {name: Scale(name, {"expert": 1.0}, (-1.0, 1.0)) for name in ("medical", "legal", "safety")}
GOALS = {
    "medical=expert,legal=generic": SolvedSetting(knobs={"medical": "expert"}, reached=True),
    "medical=generic,legal=expert": SolvedSetting(knobs={"legal": 0.5}, reached=False),
}
GOAL = "legal=generic, medical=expert"
FREE = Rules(name="free")


def asked(*parts: Any, by: Rules = FREE, scales: Any = SCALES) -> Any:
    return with_goals(parts, GOALS, scales, by)


def test_a_goal_is_a_whole_setting_and_knobs_beside_it_win() -> None:
    whole = {"medical": "expert", "legal": 0.0, "safety": 0.0}
    assert asked({"goal": GOAL}) == [whole]
    assert asked({"legal": 0.5}, {"goal": GOAL, "safety": 0.1}) == [{"legal": 0.5}, {**whole, "safety": 0.1}]


def test_a_vector_that_the_goal_leaves_out_stays_where_the_key_holds_it() -> None:
    by = Rules.model_validate(
        {"name": "public", "vectors": {"medical": {}, "legal": {"default": -0.5}}, "forced": {"safety": 0.5}}
    )
    assert asked({"goal": GOAL}, by=by) == [{"medical": "expert", "legal": 0.0}]
    by = Rules.model_validate({"name": "public", "vectors": {"medical": {}, "safety": {"min": 0.5}}})
    assert asked({"goal": GOAL}, by=by) == [{"medical": "expert"}]


@pytest.mark.parametrize("goal", ["medical=expert", "", "\ud800" * 5000, 3.0])
def test_an_unknown_goal_is_answered_with_those_that_there_are(goal: Any) -> None:
    with pytest.raises(BadRequestError, match="have: medical=expert,legal=generic; medical=generic,legal") as caught:
        asked({"goal": goal})
    assert caught.value.param == "alignment" and len(str(caught.value)) < 2000
    str(caught.value).encode()


def test_without_goals_it_is_said_and_what_is_no_object_is_left_to_others() -> None:
    with pytest.raises(BadRequestError, match="without --settings"):
        with_goals([{"goal": GOAL}], {}, SCALES, FREE)
    assert asked(None, 3, {"medical": 1}) == [None, 3, {"medical": 1}]
    assert asked({"goal": 1}, scales={"goal": Scale("goal")}) == [{"goal": 1}], "a vector of that name is a knob"


@pytest.mark.parametrize(
    ("knobs", "scales", "told"),
    [
        ({"tax": 1.0}, SCALES, "goal g: no vector named 'tax' is loaded .have: medical, legal, safety"),
        ({"medical": "superb"}, SCALES, "goal g: knob 'medical': 'superb' is not a number"),
        ({}, {"goal": Scale("goal")}, "a vector named 'goal'"),
    ],
)
def test_goals_that_do_not_fit_the_vectors_are_told_at_the_start(knobs: Any, scales: Any, told: str) -> None:
    check_goals(GOALS, SCALES)
    check_goals({}, {"goal": Scale("goal")})
    with pytest.raises(ConfigError, match=told):
        check_goals({"g": SolvedSetting(knobs=knobs)}, scales)
