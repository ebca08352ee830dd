"""Boxes of settings."""

from typing import Any

import numpy as np
import pytest

from alignvec.errors import ConfigError
from alignvec.solve.box import Axis, Box, box_of
from alignvec.steer.scale import scale_of
from alignvec.steer.usable import cut
from alignvec.vectors.card import Card, CurvePoint, Measurement
from alignvec.vectors.strict import Interval
from tests.solve.rule_knob import RuleKnob, calibrated

BOX = Box((Axis("medical", -1.0, 1.0, True), Axis("legal", -1.5, 1.0, False)))


def test_settings_and_points_are_each_others_inverse() -> None:
    assert BOX.knobs([0.12345, -0.0]) == {"medical": 0.123}
    assert BOX.point({"legal": -1.5}) == [0.0, -1.5]
    with pytest.raises(ConfigError, match="no knob 'tax'"):
        BOX.point({"tax": 1.0})


def test_a_grid_has_every_combination() -> None:
    grid = BOX.grid(3)
    assert sorted(map(tuple, grid.tolist())) == sorted((a, b) for a in (-1, 0, 1) for b in (-1.5, -0.25, 1))


def test_grids_and_draws_have_three_decimals_and_stay_in_the_box() -> None:
    assert Box((Axis("a", 0.0, 1.0, False),)).grid(4).tolist() == [[0.0], [0.333], [0.667], [1.0]]
    drawn = BOX.random(500, seed=1)
    assert drawn.shape == (500, 2) and np.array_equal(drawn, drawn.round(3))
    for i, axis in enumerate(BOX.axes):
        assert axis.low <= drawn[:, i].min() < axis.low + 0.05 and axis.high - 0.05 < drawn[:, i].max() <= axis.high
    assert np.array_equal(drawn, BOX.random(500, seed=1)) and not np.array_equal(drawn, BOX.random(500, seed=2))


def test_a_design_begins_with_ends_and_middles_of_each_knob_and_then_has_corners_of_up_to_three() -> None:
    first = [[-1.0, 0.0], [1.0, 0.0], [0.0, -1.5], [0.0, 1.0], [-0.5, 0.0], [0.5, 0.0], [0.0, -0.75], [0.0, 0.5]]
    corners = [[-1.0, -1.5], [-1.0, 1.0], [1.0, -1.5], [1.0, 1.0]]
    assert BOX.design(12, seed=0).tolist() == first + corners
    assert BOX.design(5, seed=0).tolist() == first[:5]
    one = Box(BOX.axes[:1])
    assert one.design(4, seed=0).tolist() == [[-1.0], [1.0], [-0.5], [0.5]]
    half = Box((Axis("up", 0.0, 1.0, True), Axis("b", -1.0, 1.0, False)))
    assert half.design(6, seed=0).tolist() == [[1, 0], [0, -1], [0, 1], [0.5, 0], [0, -0.5], [0, 0.5]]
    for count, corners_of in ((3, 8), (4, 0)):
        many = Box(tuple(Axis(f"k{i}", -1.0, 1.0, False) for i in range(count))).design(60, seed=0)
        assert (np.abs(many).min(axis=1) == 1).sum() == corners_of


@pytest.mark.parametrize("count", [1, 5, 12, 30])
def test_a_design_fills_the_box_without_the_base_or_repeats(count: int) -> None:
    design = BOX.design(count, seed=3)
    assert design.shape == (count, 2)
    assert len(np.unique(design, axis=0)) == count and np.abs(design).sum(axis=1).min() > 0
    assert (design >= [-1.0, -1.5]).all() and (design <= [1.0, 1.0]).all()
    assert np.array_equal(design, BOX.design(count, seed=3))
    if count == 30:
        corners = {(-1.0, -1.5), (-1.0, 1.0), (1.0, -1.5), (1.0, 1.0)}
        assert corners <= set(map(tuple, design.tolist()))
        assert not np.array_equal(design, BOX.design(count, seed=4))


def test_the_box_is_what_the_cards_measured(make_vector: Any) -> None:
    cards = {"medical": make_vector("medical").card, "legal": make_vector("legal", hinged=False).card}
    cards["legal"] = measured_at(cards["legal"], -2.0, 0.5)
    assert box_of(cards) == Box((Axis("medical", -1.0, 1.0, True), Axis("legal", -2.0, 0.5, False)))
    assert box_of({"legal": measured_at(cards["legal"], 0.5)}).axes[0].low == 0.0
    with pytest.raises(ConfigError, match="measured at λ = 0 alone"):
        box_of({"legal": measured_at(cards["legal"], 0.0)})


def test_ends_of_a_range_are_rounded_inwards_so_that_nothing_is_cut_afterwards(make_vector: Any) -> None:
    card = measured_at(make_vector().card, -0.0625, 0.1875)
    (axis,) = box_of({"medical": card}).axes
    assert (axis.low, axis.high) == (-0.062, 0.187)
    (whole,) = box_of({"medical": measured_at(card, -0.29, 1.001)}).axes
    assert (whole.low, whole.high) == (-0.29, 1.001)
    settings = Box((axis,)).design(4, seed=0)
    usable = scale_of(card).usable
    assert usable is not None and cut({"medical": settings.max()}, {"medical": usable})[1] == {}


def test_a_calibration_that_found_nothing_usable_is_told_as_one(make_vector: Any) -> None:
    found = calibrated(RuleKnob(perplexity=lambda value: 2.0 if value else 1.0))
    with pytest.raises(ConfigError, match="calibration of medical found nothing usable .* wider limits"):
        box_of({"medical": make_vector().card.model_copy(update={"calibration": found})})


def measured_at(card: Card, *coefficients: float) -> Card:
    """The card with a curve of these points."""
    some = Interval(value=0.0, low=0.0, high=0.0)
    curve = [CurvePoint(coefficient=c, preference_rate={}, margin=some, margin_sum=some) for c in coefficients]
    measured = Measurement(data="d", queries=1, generation={}, judge="none", curve=curve)
    return card.model_copy(update={"measured": measured})
