"""Scales read from cards: percentages follow what was measured, if anything was."""

import pytest

from alignvec.errors import KnobError
from alignvec.steer.scale import scale_of
from alignvec.vectors.card import BaseReference, Card, CurvePoint, Measurement
from alignvec.vectors.strict import Interval

BASE = BaseReference(name="tiny", fingerprint="f", template="t")
SETTINGS = {"low": -1.5, "middle": 0.0, "high": 1.0}


def card(rates: dict[float, float] | None = None, settings: dict[str, float] = SETTINGS, **more: object) -> Card:
    zero = Interval(value=0, low=0, high=0)
    points = [
        CurvePoint(
            coefficient=x,
            preference_rate={},
            margin=zero,
            margin_sum=zero,
            level_rate={"high": Interval(value=rate, low=0, high=1)},
        )
        for x, rate in (rates or {}).items()
    ]
    measured = Measurement(data="d", queries=1, generation={}, judge="j", curve=points) if points else None
    fields = {"name": "v", "levels": tuple(SETTINGS), "form": "single", "method": "m", "base": BASE, **more}
    return Card.model_validate({**fields, "settings": settings, "measured": measured})


def test_without_a_measurement_a_percentage_is_a_share_of_the_highest_levels_setting() -> None:
    scale = scale_of(card(settings={"high": 2.0}))
    assert [scale.coefficient(p) for p in ("0%", "25%", "100%")] == [0, 0.5, 2.0]
    assert scale.usable is None


def test_with_one_it_is_a_share_of_the_change_in_the_level_rate() -> None:
    scale = scale_of(card({-1.5: 0.4, -0.5: 0.0, 0.0: 0.1, 0.5: 0.2, 1.0: 0.9, 1.5: 1.0}))
    assert scale.usable == (-1.5, 1.5)
    # the rate rises from .1 at the base to .9 at the setting: 50% is .5, three sevenths of the way from .2 to .9
    assert scale.coefficient("50%") == pytest.approx(0.5 + 0.5 * 3 / 7)
    assert scale.coefficient("100%") == 1.0


def test_a_rate_that_falls_on_the_way_is_held() -> None:
    scale = scale_of(card({0.0: 0.0, 0.25: 0.5, 0.75: 0.3, 1.0: 1.0}))
    assert scale.coefficient("50%") == 0.25
    assert scale.coefficient("75%") == pytest.approx(0.875)


@pytest.mark.parametrize(
    "rates", [{0.0: 0.5, 1.0: 0.5}, {0.0: 0.5, 1.0: 0.2}, {0.0: 0.1, 0.5: 0.9}, {0.5: 0.1, 1.0: 1.0}]
)
def test_a_measurement_that_does_not_rise_or_span_the_way_leaves_a_straight_line(rates: dict[float, float]) -> None:
    assert scale_of(card(rates)).coefficient("30%") == pytest.approx(0.3)


def test_nothing_is_the_base_and_the_least_share_is_where_the_rate_begins_to_rise() -> None:
    scale = scale_of(card({0.0: 0.1, 0.5: 0.1, 1.0: 0.9}))
    assert scale.coefficient("0%") == 0.0
    assert scale.coefficient("1%") == pytest.approx(0.505)


def test_a_knob_whose_highest_level_is_below_zero_turns_down() -> None:
    scale = scale_of(card({-1.0: 0.8, -0.5: 0.6, 0.0: 0.0}, {"high": -1.0}))
    assert scale.coefficient("75%") == pytest.approx(-0.5)


@pytest.mark.parametrize("value", ["nan", float("inf"), "1e999", 10**400, "", "x", "5 %%"])
def test_what_is_no_finite_number_is_refused(value: float | str) -> None:
    with pytest.raises(KnobError, match="knob 'v'"):
        scale_of(card()).coefficient(value)
