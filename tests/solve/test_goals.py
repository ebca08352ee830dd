"""Goals as users write them."""

import numpy as np
import pytest

from alignvec.errors import ConfigError
from alignvec.solve.goals import Goal, all_goals, parse_constraints, parse_goals

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


@pytest.mark.parametrize(
    ("text", "domain", "level", "least", "bound", "values", "miss"),
    [
        ("perplexity<=1.1x", None, "", False, 1.1, [1.0, 1.2], [-0.1, 0.1]),
        ("legal>=0.9", "legal", "expert", True, 0.9, [1.0, 0.5], [-0.1, 0.4]),
        ("medical=generic<=.25", "medical", "generic", False, 0.25, [0.25], [0.0]),
    ],
)
def test_a_constraint_is_read_and_kept_on_its_right_side(
    text: str, domain: str | None, level: str, least: bool, bound: float, values: list[float], miss: list[float]
) -> None:
    (found,) = parse_constraints([text], ("medical", "legal"), ("avoidance", "generic", "expert"))
    assert (found.domain, found.level, found.least, found.bound) == (domain, level, least, bound)
    assert found.miss(np.array(values)) == pytest.approx(miss)
    assert parse_constraints([str(found)], ("medical", "legal"), ("avoidance", "generic", "expert")) == (found,)


@pytest.mark.parametrize(
    "text", ["perplexity", "perplexity<1", "tax>=0.9", "legal=superb>=0.9", "legal>=", "legal>=.."]
)
def test_a_constraint_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="--constraint"):
        parse_constraints([text], ("medical", "legal"), ("avoidance", "generic", "expert"))
