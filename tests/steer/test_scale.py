"""Scales read from cards: percentages follow what was measured, if anything was."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from alignvec.errors import KnobError
from alignvec.steer.scale import Scale, scale_of
from alignvec.vectors.calibration import Calibration, FittedPoint, Limits, Rising
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


def calibration(rates: dict[float, float], settings: dict[str, float]) -> Calibration:
    """One whose highest level has these rates; its other rates are the opposite."""

    def rising(rate: float) -> Rising:
        exact, other = (Interval(value=value, low=0, high=1) for value in (rate, 1 - rate))
        return Rising(highest=exact, above_lowest=other)

    return Calibration(
        data="d",
        queries=1,
        text="t",
        language="en",
        generation={},
        judge="j",
        levels=("lowest", "low", "high"),
        limits=Limits(),
        usable=(-0.5, 0.8),
        points=(),
        curve=[
            FittedPoint(coefficient=x, level_rate=rising(r), preference_rate=rising(1 - r)) for x, r in rates.items()
        ],
        settings=settings,
    )


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


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), b"1", None, 1j], ids=["truth", "numpy-truth", "bytes", "none", "complex"]
)
def test_what_is_neither_text_nor_a_real_number_is_refused(value: Any) -> None:
    with pytest.raises(KnobError, match="knob 'v': .* is not a number"):
        scale_of(card()).coefficient(value)


def test_any_real_number_is_a_coefficient() -> None:
    values: list[Any] = [1, 0.5, np.float32(0.5), np.float16(2), np.int64(-1), Fraction(1, 2), np.str_("0.5")]
    assert [scale_of(card()).coefficient(value) for value in values] == [1, 0.5, 0.5, 2, -1, 0.5, 0.5]


def test_a_calibration_replaces_the_measured_curve_the_settings_that_it_names_and_the_usable_range() -> None:
    found = calibration({-0.5: 0.0, 0.0: 0.2, 0.4: 0.4, 0.8: 1.0}, {"low": -0.25, "high": 0.8})
    scale = scale_of(card({-1.5: 0.0, 0.0: 0.9, 1.0: 1.0}, calibration=found))
    assert (scale.name, scale.usable) == ("v", (-0.5, 0.8))
    assert scale.levels == {"low": -0.25, "middle": 0.0, "high": 0.8}
    assert np.array(scale.curve) == pytest.approx(np.array([(0.0, 0.0), (0.4, 0.25), (0.8, 1.0)]))
    assert scale.coefficient("high") == 0.8
    # from .2 at the base to 1: 50% is a rate of .6, a third of the way from .4 to 1
    assert scale.coefficient("50%") == pytest.approx(0.4 + 0.4 / 3)


@pytest.mark.parametrize("settings", [{"low": -0.25, "high": 0.0}, {"low": -0.25}])
def test_a_calibration_without_a_setting_of_its_highest_level_above_the_base_gives_no_percentages(
    settings: dict[str, float],
) -> None:
    scale = scale_of(card({0.0: 0.0, 1.0: 1.0}, calibration=calibration({0.0: 0.0, 1.0: 1.0}, settings)))
    assert scale.curve == ()
    with pytest.raises(KnobError, match="use a number"):
        scale.coefficient("50%")


@pytest.mark.parametrize(
    ("coefficients", "usable"), [((-1.5, 1.0), (-1.5, 1.0)), ((0.5, 0.75), (0.0, 0.75)), ((-0.75, -0.5), (-0.75, 0.0))]
)
def test_the_usable_range_is_what_was_measured_and_the_base(
    coefficients: tuple[float, ...], usable: tuple[float, float]
) -> None:
    scale = scale_of(card(dict.fromkeys(reversed(coefficients), 0.5)))
    assert scale.usable == usable


@pytest.mark.parametrize("more", [{"levels": ()}, {"settings": {"low": -1.0}}], ids=["no levels", "no setting"])
def test_a_card_without_a_setting_of_its_highest_level_gives_no_percentages(more: dict[str, object]) -> None:
    scale = scale_of(card({0.0: 0.0, 1.0: 1.0}).model_copy(update=more))
    assert scale.curve == ()


def test_rates_beyond_the_highest_levels_setting_do_not_count() -> None:
    scale = scale_of(card({-1.0: 0.0, 0.0: 0.1, 0.5: 0.3, 0.75: 1.0}, {"high": 0.5}))
    assert scale.curve == ((0.0, 0.0), (0.5, 1.0))
    scale = scale_of(card({-1.0: 0.6, -0.5: 0.5, 0.0: 0.1, 0.25: 0.9, 0.5: 1.0}, {"high": -1.0}))
    assert np.array(scale.curve) == pytest.approx(np.array([(0.0, 0.0), (-0.5, 0.8), (-1.0, 1.0)]))


def test_two_measured_rates_that_are_equal_leave_a_straight_line() -> None:
    assert scale_of(card({0.0: 0.4, 1.0: 0.4})).curve == ((0.0, 0.0), (1.0, 1.0))


def test_a_curve_of_another_program_that_is_not_from_0_to_1_is_read_where_it_rises() -> None:
    scale = Scale("v", curve=((0.0, 0.2), (0.5, 0.2), (1.0, 0.6), (2.0, 0.9)))
    assert [scale.coefficient(share) for share in ("20%", "40%", "75%", "95%")] == [0.5, 0.75, 1.5, 2.0]


def test_a_coefficient_of_a_percentage_has_six_decimals() -> None:
    scale = Scale("v", curve=((0.0, 0.0), (1.0, 1.0)))
    assert scale.coefficient("12.34567891%") == 0.123457
