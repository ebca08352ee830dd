"""Bootstrap intervals against normal theory."""

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from alignvec.evaluate import statistics
from alignvec.evaluate.statistics import (
    bootstrap_change,
    bootstrap_mean,
    bootstrap_rate,
    bootstrap_rates,
    spread_rate,
)
from alignvec.vectors.strict import Interval


def names(count: int, *, size: int = 1) -> list[str]:
    return [f"persona {i // size}" for i in range(count)]


def test_the_value_is_the_plain_mean() -> None:
    values = [0.25, 1.0, -3.0, 7.5]
    assert bootstrap_mean(values, ["a", "a", "a", "b"]).value == math.fsum(values) / 4


def test_many_independent_groups_give_the_interval_of_normal_theory() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, size=400)
    found = bootstrap_mean(values.tolist(), names(400))
    half = 1.959964 * values.std() / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_a_share_has_the_width_of_a_binomial() -> None:
    found = bootstrap_mean([1.0] * 120 + [0.0] * 280, names(400))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * math.sqrt(0.3 * 0.7 / 400), rel=0.1)


def test_groups_of_equal_values_widen_the_interval_as_if_each_were_one() -> None:
    values = np.random.default_rng(2).normal(size=100)
    alone = bootstrap_mean(values.tolist(), names(100))
    clustered = bootstrap_mean(np.repeat(values, 4).tolist(), names(400, size=4))
    naive = bootstrap_mean(np.repeat(values, 4).tolist(), names(400))
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=1e-9)
    assert (clustered.high - clustered.low) / (naive.high - naive.low) == pytest.approx(2.0, rel=0.1)


def test_opposite_values_in_every_group_leave_no_doubt() -> None:
    found = bootstrap_mean([1.0, -1.0] * 50, names(100, size=2))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_rates_that_agree_in_all_groups_allow_for_groups_that_were_missed() -> None:
    slack = 1 - 0.025 ** (1 / 5)
    half = bootstrap_rate([1.0, 0.0] * 5, names(10, size=2))
    assert (half.low, half.high) == (pytest.approx(0.5 * (1 - slack)), pytest.approx(0.5 + 0.5 * slack))
    third = bootstrap_rate([1.0, 0.0, 0.0] * 5, names(15, size=3))  # not exact in binary
    assert (third.low, third.high) == (pytest.approx((1 - slack) / 3), pytest.approx(1 / 3 + 2 / 3 * slack))
    none = spread_rate(np.zeros(2001), groups=5, fewest=2)
    assert (none.low, none.high) == (0.0, pytest.approx(slack))
    varied = np.linspace(0.0, 1.0, 2001)
    assert spread_rate(varied, groups=5, fewest=2).high == np.percentile(varied[1:], 97.5)
    assert spread_rate(varied, groups=5, fewest=1).high is None


def test_unequal_groups_count_by_their_queries() -> None:
    found = bootstrap_mean([1.0, 0.0, 0.0, 0.0], ["a", "b", "b", "b"])
    assert (found.value, found.low, found.high) == (0.25, 0.0, 1.0)


@pytest.mark.parametrize(("values", "mean"), [([0.0, 1.0], 0.5), ([1.0, 1.0], 1.0), ([0.0, 0.0], 0.0)])
def test_the_interval_of_one_group_is_unknown(values: list[float], mean: float) -> None:
    for found in (bootstrap_mean(values, ["only", "only"]), bootstrap_rate(values, ["only", "only"])):
        assert (found.low, found.value, found.high) == (None, mean, None)
        assert found.told() == f"{mean:.2f}" and found.drawn == (mean, mean)
        stored = found.model_dump_json()
        assert json.loads(stored) == {"value": mean, "low": None, "high": None}
        assert Interval.model_validate_json(stored) == found


def test_an_interval_is_told_with_both_ends_and_never_has_one_alone() -> None:
    found = Interval(value=0.5, low=0.25, high=0.75)
    assert found.told() == "0.50 [0.25, 0.75]" and found.told(".0f", scale=100, comma=",") == "50 [25,75]"
    with pytest.raises(ValidationError, match="both ends or none"):
        Interval(value=0.5, low=None, high=1.0)


def test_the_seed_alone_decides_the_draws() -> None:
    values = np.random.default_rng(3).normal(size=30).tolist()
    first = bootstrap_mean(values, names(30), seed=4)
    assert first == bootstrap_mean(values, names(30), seed=4)
    other = bootstrap_mean(values, names(30), seed=5)
    assert other != first
    assert other.value == first.value


def test_the_order_of_the_queries_does_not_matter() -> None:
    values = np.random.default_rng(6).integers(0, 2, size=30).astype(float).tolist()
    groups = names(30, size=3)
    assert bootstrap_mean(values[::-1], groups[::-1]) == bootstrap_mean(values, groups)


@pytest.mark.parametrize(("values", "groups"), [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_no_values_or_unmatched_groups_are_an_error(values: list[float], groups: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(values)} values for {len(groups)} groups"):
        bootstrap_mean(values, groups)


def test_a_change_that_none_shows_may_have_been_missed_in_some() -> None:
    none = bootstrap_change([0.0] * 8, names(8, size=2))
    slack = 1 - 0.025 ** (1 / 4)  # four personas
    assert (none.value, none.low, none.high) == pytest.approx((0.0, -slack, slack))
    some = [1.0, -1.0, 0.0, 1.0]
    assert bootstrap_change(some, names(4)) == bootstrap_mean(some, names(4))
    assert bootstrap_change([0.0, 0.0], ["one", "one"]).low is None


@pytest.mark.parametrize("at_once", [1 << 20, 7])
def test_counted_rates_are_the_rates_of_their_values(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", at_once)
    draw = np.random.default_rng(3)
    groups = [f"p{i}" for i in draw.integers(12, size=90)]
    values = np.stack([draw.random(90) < 0.3, np.zeros(90, bool), np.ones(90, bool), draw.random(90) < 0.7], axis=1)
    names = sorted(set(groups))
    counts = np.array([values[[g == name for g in groups]].sum(axis=0) for name in names], dtype=np.float64)
    sizes = np.array([groups.count(name) for name in names], dtype=np.float64)
    found = bootstrap_rates(counts, sizes, seed=5)
    for column, one in zip(values.T, found, strict=True):
        assert one.told(".9f") == bootstrap_rate(column.astype(float).tolist(), groups, seed=5).told(".9f")
    with pytest.raises(ValueError, match="no values"):
        bootstrap_rates(counts * 0, sizes * 0)
