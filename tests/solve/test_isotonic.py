"""Rising curves with bands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.solve.isotonic import rising_curve

PERSONAS = [f"persona {i // 2}" for i in range(20)]


def hits(*counts: int) -> np.ndarray:
    """Points at which the first so many of 20 queries count."""
    return np.arange(20) < np.array(counts)[:, None]


def test_rates_that_rise_are_kept_and_others_are_pooled() -> None:
    assert [p.value for p in rising_curve(hits(2, 6, 16), PERSONAS)] == pytest.approx([0.1, 0.3, 0.8])
    assert [p.value for p in rising_curve(hits(2, 16, 8, 18), PERSONAS)] == pytest.approx([0.1, 0.6, 0.6, 0.9])


def test_the_band_of_a_single_rate_is_the_percentile_interval_over_personas() -> None:
    from alignvec.evaluate.statistics import bootstrap_rate

    found = hits(8)
    (point,) = rising_curve(found, PERSONAS)
    assert point.model_dump() == pytest.approx(bootstrap_rate(found[0].tolist(), PERSONAS).model_dump())


def test_bands_of_rates_that_rise_in_every_resampling_are_those_of_each_rate_alone() -> None:
    counts = (3, 8, 10, 15)
    assert rising_curve(hits(*counts), PERSONAS) == [rising_curve(hits(count), PERSONAS)[0] for count in counts]


@pytest.mark.parametrize("count", [0, 20])
def test_where_all_agree_the_band_is_the_binomial_one_of_ten_personas(count: int) -> None:
    (point,) = rising_curve(hits(count), PERSONAS)
    slack = 1 - 0.025**0.1
    assert (point.low, point.high) == pytest.approx((0, slack) if count == 0 else (1 - slack, 1))


def test_the_band_of_one_persona_is_unknown() -> None:
    found = rising_curve(hits(2, 6, 20), ["only"] * 20)
    assert [(p.value, p.low, p.high) for p in found] == [(0.1, None, None), (0.3, None, None), (1.0, None, None)]


def test_more_personas_give_a_narrower_band() -> None:
    few = rising_curve(hits(4, 10, 16), PERSONAS)
    many = rising_curve(np.tile(hits(4, 10, 16), 4), [f"{p} {i}" for i in range(4) for p in PERSONAS])
    assert all(m.high - m.low < f.high - f.low for f, m in zip(few, many, strict=True))


@settings(max_examples=5, deadline=None)
@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_curve_and_bands_rise_and_the_curve_is_inside(counts: list[int]) -> None:
    found = rising_curve(hits(*counts), PERSONAS)
    for name in ("value", "low", "high"):
        values = [getattr(point, name) for point in found]
        assert values == sorted(values)
    assert all(0 <= p.low <= p.value <= p.high <= 1 for p in found)
