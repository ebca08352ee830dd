"""Percentiles, rates and goodput against closed forms: a queue with fixed service time, and known gaps."""

import pytest

from alignvec.serve.load.outcome import Outcome, Probe
from alignvec.serve.load.summary import Goals, percentiles, summarize

PROBE = Probe({})


def deterministic_queue(count: int, *, every: float, service: float) -> list[Outcome]:
    """One server, arrivals `every` s, one token after `service` s of work: request i waits i (service - every)."""
    return [
        Outcome(
            PROBE,
            due=i * every,
            kind="answered",
            status=200,
            first=i * (service - every) + service,
            seconds=i * (service - every) + service,
            tokens=1,
        )
        for i in range(count)
    ]


def test_percentiles_of_0_to_100_are_their_own_number() -> None:
    found = percentiles([float(i) for i in range(100, -1, -1)])
    assert found is not None
    assert (found.p50, found.p95, found.p99) == pytest.approx((50, 95, 99))


def test_percentiles_between_two_values_are_interpolated() -> None:
    found = percentiles([1.0, 3.0])
    assert found is not None
    assert (found.p50, found.p95, found.p99) == pytest.approx((2.0, 2.9, 2.98))


def test_no_values_have_no_percentiles() -> None:
    assert percentiles([]) is None


def test_overloaded_queue_waits_longer_with_every_request_and_works_at_its_capacity() -> None:
    outcomes = deterministic_queue(101, every=0.5, service=1.0)
    found = summarize(outcomes, Goals(first_token=26.0))
    assert found.first_token is not None
    assert (found.first_token.p50, found.first_token.p95, found.first_token.p99) == pytest.approx((26.0, 48.5, 50.5))
    assert found.seconds == pytest.approx(101.0)  # always busy: 101 services of 1 s
    assert found.requests_per_s == pytest.approx(1.0)  # capacity, not the offered 2/s
    assert found.goodput_per_s == pytest.approx(51 / 101)  # requests 0 to 50 wait at most 26 s
    assert found.per_token is None  # replies of one token have no time between tokens


def test_time_per_token_is_the_mean_gap_and_between_is_over_all_gaps() -> None:
    outcome = Outcome(
        PROBE, due=5.0, kind="answered", first=1.0, gaps=(0.1, 0.3, 0.2), seconds=1.6, tokens=4, finish="length"
    )
    found = summarize([outcome])
    assert found.per_token is not None
    assert found.between is not None
    assert found.per_token.p50 == pytest.approx(0.2)
    assert found.between.p99 == pytest.approx(0.298)
    assert found.tokens_per_s == pytest.approx(4 / 1.6)


def test_pieces_of_several_tokens_count_by_their_tokens() -> None:
    outcome = Outcome(PROBE, due=0.0, kind="answered", first=1.0, gaps=(0.6,), seconds=1.6, tokens=4)
    assert outcome.per_token == pytest.approx(0.2)


def test_only_answered_requests_count_for_throughput_and_every_one_is_counted_by_kind() -> None:
    kinds = ("answered", "refused", "failed", "cut", "unreachable", "timed out", "left", "refused")
    statuses = (200, 429, 200, 200, None, 200, 200, 503)
    outcomes = [
        Outcome(PROBE, due=0.0, kind=kind, status=status, first=9.0, seconds=10.0, tokens=7)  # type: ignore[arg-type]
        for kind, status in zip(kinds, statuses, strict=True)
    ]
    found = summarize(outcomes, Goals(first_token=8.9))
    assert found.kinds == dict.fromkeys(sorted(kinds), 1) | {"refused": 2}
    assert found.statuses == {"200": 5, "429": 1, "503": 1, "none": 1}
    assert (found.tokens_per_s, found.requests_per_s, found.goodput_per_s) == pytest.approx((0.7, 0.1, 0.0))
