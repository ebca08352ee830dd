"""Goals as users write them."""

import pytest

from alignvec.errors import ConfigError
from alignvec.solve.goals import Goal, all_goals, parse_goals

DOMAINS, LEVELS = ("medical", "legal"), ("avoidance", "expert")


def test_goals_are_read_apart_or_together() -> None:
    goal = Goal({"medical": "expert", "legal": "avoidance"}, {"legal": 2.0})
    assert parse_goals(["medical=expert", " legal = avoidance "], DOMAINS, LEVELS, ["legal=2"]) == goal
    assert parse_goals(["medical=expert,legal=avoidance"], DOMAINS, LEVELS, ["legal=2"]) == goal
    assert str(goal) == "medical=expert,legal=avoidance"


def test_all_goals_are_all_combinations() -> None:
    assert len({str(goal) for goal in all_goals(("a", "b", "c"), ("x", "y", "z"))}) == 27


@pytest.mark.parametrize(
    ("goals", "weights", "told"),
    [
        ([], [], "no goal"),
        (["medical"], [], "cannot read 'medical'"),
        (["medical=expert", "medical=avoidance"], [], "comes twice"),
        (["tax=expert"], [], "no domain 'tax'"),
        (["medical=superb"], [], "no level 'superb'"),
        (["medical=expert"], ["legal=2"], "domains that have a goal"),
        (["medical=expert"], ["medical=nan"], "positive numbers"),
        (["medical=expert"], ["medical=-1"], "positive numbers"),
        (["medical=expert"], ["medical=much"], "positive numbers"),
    ],
)
def test_what_cannot_be_read_is_named(goals: list[str], weights: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_goals(goals, DOMAINS, LEVELS, weights)
