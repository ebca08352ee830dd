"""How near a setting is to a goal, what a constraint costs, and what is said to block a goal."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alignvec.errors import DataError
from alignvec.solve.box import Axis, Box, Points
from alignvec.solve.goals import Goal, parse_constraints, parse_goals
from alignvec.solve.search import blocked, misses, objective, reached, remembered, search, values_each
from alignvec.solve.surface import Array

DOMAINS, LEVELS = ("medical", "legal"), ("low", "middle", "high")
RATES = np.array(
    [[[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [[0.0, 0.1, 0.9], [0.3, 0.3, 0.4]], [[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]]
)


def goal(text: str, *constraints: str, weights: tuple[str, ...] = ()) -> Goal:
    made = parse_goals([text], DOMAINS, LEVELS, weights)
    return Goal(made.wanted, made.weights, parse_constraints(constraints, DOMAINS, LEVELS))


def value(*near: float) -> float:
    """The worst, and a tenth of the mean, so that all at 1 make 1."""
    return (min(near) + 0.1 * sum(near) / len(near)) / 1.1


def test_a_setting_is_worth_its_worst_wanted_rate_and_a_tenth_of_the_mean() -> None:
    found = objective(RATES, goal("medical=high,legal=low"), DOMAINS, LEVELS)
    assert found == pytest.approx([value(0.7, 0.5), value(0.9, 0.3), value(0.1, 0.2)])
    weighted = objective(RATES, goal("medical=high,legal=low", weights=("legal=2",)), DOMAINS, LEVELS)
    assert weighted == pytest.approx([value(0.7, 0.0), value(0.9, -0.4), value(0.1, -0.6)])
    assert objective(RATES, goal("legal=high"), DOMAINS, LEVELS) == pytest.approx([0.2, 0.4, 0.6])


def test_what_breaks_a_constraint_is_worse_than_all_that_keeps_it_and_the_more_the_more_it_breaks() -> None:
    wanted = goal("medical=high", "legal=high<=0.3", "medical=low<=0.5")
    missed = misses(RATES, wanted, DOMAINS, LEVELS)
    assert missed == pytest.approx([0.0, 0.1, 0.3 + 0.1])
    found = objective(RATES, wanted, DOMAINS, LEVELS)
    assert found == pytest.approx([0.7, 0.9 - 1.0 - 0.1, 0.1 - 1.0 - 0.4])
    heavy = objective(RATES, goal("medical=high", "legal=high<=0.3", weights=("medical=3",)), DOMAINS, LEVELS)
    assert heavy == pytest.approx([1 - 3 * 0.3, 1 - 3 * 0.1 - 3.0 - 0.1, 1 - 3 * 0.9 - 3.0 - 0.3])


def test_a_bound_on_perplexity_needs_texts_and_counts_beside_the_others() -> None:
    wanted = goal("medical=high", "perplexity<=1.1", "legal>=0.5")
    found = misses(RATES, wanted, DOMAINS, LEVELS, np.array([1.0, 1.2, 1.5]))
    assert found == pytest.approx([0.3, 0.1 + 0.1, 0.4])
    with pytest.raises(DataError, match="perplexity<=1.1 needs texts outside"):
        misses(RATES, wanted, DOMAINS, LEVELS)


@pytest.mark.parametrize(
    ("text", "least", "verdict"),
    [
        ("medical=high,legal=low", 0.5, True),
        ("medical=high,legal=low", 0.51, False),
        ("medical=high", 0.7, True),
        ("medical=middle", 0.1, False),
        ("medical=high,legal=high", 0.1, False),
    ],
)
def test_a_goal_is_reached_where_all_its_levels_are(text: str, least: float, verdict: bool) -> None:
    assert reached(RATES[0], goal(text), DOMAINS, LEVELS, least) is verdict


@pytest.mark.parametrize(
    ("count", "axes", "each"), [(10_000, 1, 10_000), (10_000, 2, 100), (1_000, 3, 10), (999, 3, 9), (1_000, 20, 2)]
)
def test_as_many_values_of_each_knob_as_make_so_many_settings(count: int, axes: int, each: int) -> None:
    assert values_each(count, axes) == each


def test_points_are_predicted_once() -> None:
    asked: list[Points] = []

    def rates(points: Points) -> Array:
        asked.append(points)
        return points.sum(axis=1)

    recall, some, other = remembered(rates), np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])
    assert recall(some) is recall(some.copy())
    assert recall(other).tolist() == [3.0] and len(asked) == 2


class Rule:
    """A box whose rates follow a rule: of each domain the chance of its highest level, and the perplexity."""

    domains, levels = DOMAINS, LEVELS

    def __init__(self, rule: Callable[[Array, Array], tuple[Any, Any]], cost: float = 0.0, low: float = -1.0) -> None:
        self.box = Box((Axis("a", low, 1.0, False), Axis("b", -1.0, 1.0, False)))
        self.rule, self.cost = rule, cost

    def perplexity(self, points: Points) -> Array:
        return np.asarray(1.0 + self.cost * np.abs(points).sum(axis=1))

    def rates(self, points: Points) -> Array:
        high = np.clip(np.stack(self.rule(*points.T), axis=1), 0.0, 1.0)
        return np.stack([1.0 - high, np.zeros_like(high), high], axis=2)


APART = Rule(lambda a, b: (a, b), cost=0.1)
OPPOSITE = Rule(lambda a, b: (a, 0.2 - 0.6 * a))
STUCK = Rule(lambda a, b: (a, 0.2 + 0 * b))
RING = Rule(lambda a, b: (a + b, a - b), cost=2.0)


@pytest.mark.parametrize(
    ("rule", "wanted", "told"),
    [
        (APART, goal("medical=high,legal=high", "perplexity<=1.05"), "the constraints: it is reached without perp"),
        (STUCK, goal("medical=high,legal=high"), "legal=high is not reached in this range of the knobs even alone"),
        (
            STUCK,
            goal("legal=high", "medical>=0.1", "perplexity<=2"),
            "legal=high is not reached in this range of the knobs even alone under medical=high>=0.1, perplexity<=2",
        ),
        (
            OPPOSITE,
            goal("medical=high,legal=high"),
            "spillover between legal and the others: by the surface medical=high would be reached if "
            "legal=high were given up",
        ),
        (APART, goal("medical=high"), "each of its levels is reached alone, but giving up any one of them does not"),
    ],
    ids=["constraints", "alone", "alone under constraints", "spillover", "nothing"],
)
def test_what_blocks_a_goal_is_named(rule: Rule, wanted: Goal, told: str) -> None:
    assert blocked(rule, wanted, rule.rates).startswith(told)  # type: ignore[arg-type]


def test_constraints_that_are_named_are_all_of_the_goals() -> None:
    told = blocked(APART, goal("medical=high", "perplexity<=1.01", "legal<=0.3"), APART.rates)  # type: ignore[arg-type]
    assert told == "the constraints: it is reached without perplexity<=1.01, legal=high<=0.3"


@pytest.mark.parametrize("peak", [(0.123, -0.456), (1.0, -1.0), (-0.99, 0.3)])
def test_the_best_setting_is_found_to_a_hundredth_of_the_range(peak: tuple[float, float]) -> None:
    rule = Rule(lambda a, b: (1 - (a - peak[0]) ** 2 - (b - peak[1]) ** 2, 0 * a))
    found = search(rule, goal("medical=high"), rule.rates)  # type: ignore[arg-type]
    assert found.point == pytest.approx(peak, abs=0.01)
    assert found.objective == pytest.approx(1.0, abs=2e-4) and found.kept
    assert found.rates == pytest.approx(rule.rates(np.array([found.point]))[0])


def test_a_setting_that_keeps_no_constraint_is_said_to_break_it_by_the_least() -> None:
    found = search(RING, goal("medical=high", "medical=high<=0.3", "perplexity<=0.9"), RING.rates)  # type: ignore[arg-type]
    assert not found.kept and found.point == pytest.approx((0.0, 0.0), abs=0.01)
    kept = search(RING, goal("medical=high", "perplexity<=1.4"), RING.rates)  # type: ignore[arg-type]
    assert kept.kept and sum(kept.point) == pytest.approx(0.2, abs=0.01)
