"""Where a knob is measured, and its usable range."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.solve.knob_search import START, explore, usable_range
from alignvec.vectors.calibration import Limits
from tests.solve.rule_knob import LIMITS, RuleKnob


def test_it_goes_outwards_until_the_farthest_value_while_the_limits_hold() -> None:
    knob = RuleKnob()
    positions = explore(knob.measure, LIMITS, points=9, farthest=2.0)
    assert [p.coefficient for p in positions] == [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2]
    assert tuple(knob.asked[:5]) == START
    assert usable_range(positions, LIMITS) == (-2, 2)


def test_a_side_ends_at_its_first_broken_point_and_the_rest_goes_where_behaviour_changes() -> None:
    knob = RuleKnob(perplexity=lambda value: 1.3 if value < -0.9 else 1.0)
    positions = explore(knob.measure, LIMITS, points=11, farthest=1.5)
    assert usable_range(positions, LIMITS)[0] >= -0.9
    assert min(knob.asked) == -1.0, "beyond a broken point nothing is measured"
    assert max(knob.asked) == 1.5
    middles = knob.asked[6:]
    assert len(middles) == 5
    # all queries change their level between .2 and 1, in absolute value
    assert all(0.2 <= abs(value) <= 1 for value in middles)


def test_where_nothing_changes_the_widest_gap_is_halved() -> None:
    knob = RuleKnob(turn=9)
    explore(knob.measure, LIMITS, points=7, farthest=1.0)
    assert knob.asked[5:] == [-0.75, -0.25]


def test_every_limit_is_enough_to_end_the_range() -> None:
    def far(value: float) -> bool:
        return abs(value) >= 1

    for knob in (RuleKnob(perplexity=lambda v: 1.26 if far(v) else 1.0), RuleKnob(broken=lambda v: 0.15 * far(v))):
        positions = explore(knob.measure, LIMITS, points=5)
        assert usable_range(positions, LIMITS) == (-0.5, 0.5)
    lenient = Limits(perplexity=1.3, degenerate=0.15)
    for knob in (RuleKnob(perplexity=lambda v: 1.26 if far(v) else 1.0), RuleKnob(broken=lambda v: 0.15 * far(v))):
        assert usable_range(explore(knob.measure, lenient, points=5), lenient) == (-1, 1)


def test_what_the_base_breaks_by_itself_does_not_count() -> None:
    knob = RuleKnob(broken=lambda _: 0.5)
    assert usable_range(explore(knob.measure, LIMITS, points=5), LIMITS) == (-1, 1)


def test_a_broken_point_hides_what_holds_behind_it() -> None:
    knob = RuleKnob(perplexity=lambda value: 2.0 if value == 0.5 else 1.0)
    assert usable_range(explore(knob.measure, LIMITS, points=5), LIMITS) == (-1, 0)


def test_a_knob_that_breaks_at_once_is_usable_at_the_base_alone() -> None:
    knob = RuleKnob(perplexity=lambda value: math.exp(20) if value else 1.0)
    positions = explore(knob.measure, LIMITS, points=9)
    assert usable_range(positions, LIMITS) == (0, 0)
    assert min(abs(value) for value in knob.asked if value) == 0.125


@settings(max_examples=30, deadline=None)
@given(
    low=st.floats(-2.5, -0.01), high=st.floats(0.01, 2.5), points=st.integers(5, 20),
    farthest=st.floats(1, 3), turn=st.floats(0.05, 1.5),
)  # fmt: skip
def test_any_knob_is_measured_at_so_many_points_and_is_usable_where_the_limits_hold(
    low: float, high: float, points: int, farthest: float, turn: float
) -> None:
    knob = RuleKnob(turn=turn, perplexity=lambda value: 1.0 if low <= value <= high else 1.5)
    positions = explore(knob.measure, LIMITS, points=points, farthest=farthest)
    assert len(positions) == points == len(set(knob.asked))
    first, last = usable_range(positions, LIMITS)
    assert max(low, -farthest) <= first <= 0 <= last <= min(high, farthest)
    inside = [p.coefficient for p in positions if low <= p.coefficient <= high]
    assert (first, last) == (min(inside), max(inside))


@pytest.mark.parametrize("points", [5, 6, 9, 15])
def test_the_same_knob_is_always_measured_at_the_same_points(points: int) -> None:
    one, other = RuleKnob(), RuleKnob()
    explore(one.measure, LIMITS, points=points)
    explore(other.measure, LIMITS, points=points)
    assert one.asked == other.asked
