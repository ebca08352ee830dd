"""Goals as users write them."""

import numpy as np
import pytest

from alignvec.errors import ConfigError
from alignvec.solve.goals import Goal, all_goals, check_consistent, parse_constraints, parse_goals

DOMAINS, LEVELS = ("medical", "legal"), ("avoidance", "expert")


def test_goals_are_read_apart_or_together() -> None:
    goal = Goal({"medical": "expert", "legal": "avoidance"}, {"legal": 2.0})
    assert parse_goals(["medical=expert", " legal = avoidance "], DOMAINS, LEVELS, ["legal=2"]) == goal
    assert parse_goals(["medical=expert,legal=avoidance"], DOMAINS, LEVELS, ["legal=2"]) == goal
    assert str(goal) == "medical=expert,legal=avoidance"


def test_a_goal_without_weights_counts_all_alike_and_may_bound_perplexity() -> None:
    goal = parse_goals(["legal=expert"], DOMAINS, LEVELS)
    assert goal == Goal({"legal": "expert"}, {}) and not goal.bounds_perplexity
    bounds = parse_constraints(["legal>=0.5, perplexity <=1.1"], DOMAINS, LEVELS)
    assert Goal(goal.wanted, {}, bounds).bounds_perplexity and not Goal(goal.wanted, {}, bounds[:1]).bounds_perplexity


@pytest.mark.parametrize(
    ("bound", "refused"),
    [
        ("medical=expert<=0.59", True),
        ("medical<=0.5", True),
        ("medical=expert<=0.6", False),
        ("medical=expert>=0.3", False),
        ("medical=avoidance<=0.1", False),
        ("legal=expert<=0.1", False),
        ("perplexity<=0.5", False),
    ],
)
def test_a_bound_that_leaves_the_wanted_level_no_room_is_refused(bound: str, refused: bool) -> None:
    wanted = parse_goals(["medical=expert"], DOMAINS, LEVELS)
    goal = Goal(wanted.wanted, {}, parse_constraints(["legal>=0.2", bound], DOMAINS, LEVELS))
    if refused:
        with pytest.raises(ConfigError, match="medical=expert needs a rate of at least 0.6"):
            check_consistent(goal)
    else:
        check_consistent(goal)


def test_all_goals_are_all_combinations() -> None:
    assert len({str(goal) for goal in all_goals(("a", "b", "c"), ("x", "y", "z"))}) == 27
    assert [(goal.wanted, goal.weights, goal.constraints) for goal in all_goals(("a", "b"), ("x",))] == [
        ({"a": "x", "b": "x"}, {}, ())
    ]


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
        (["medical=expert"], ["medical=0"], "positive numbers"),
        (["medical=expert"], ["medical=inf"], "positive numbers"),
        (["medical=expert"], ["medical=1,medical=2"], "--weight: medical comes twice"),
        (["medical=expert"], ["medical"], "--weight: cannot read 'medical'; write it like medical=2"),
        (["medical=expert=legal"], [], "--goal: cannot read .* write it like medical=expert"),
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
        (" legal >= 1 ", "legal", "expert", True, 1.0, [1.0, 0.0], [0.0, 1.0]),
        ("perplexity>=2", None, "", True, 2.0, [1.0, 3.0], [1.0, -1.0]),
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
    "text",
    [
        *("perplexity", "perplexity<1", "perplexity<=0", "perplexity=generic<=1"),
        *("tax>=0.9", "legal=superb>=0.9", "legal>=", "legal>=..", "legal>=1.01"),
    ],
)
def test_a_constraint_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="--constraint"):
        parse_constraints([text], ("medical", "legal"), ("avoidance", "generic", "expert"))
