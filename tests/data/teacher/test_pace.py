"""How long an endpoint's headers ask for patience."""

import asyncio
import email.utils
import time

import pytest

from alignvec.data.teacher.pace import LONGEST_WAIT, Pace, backoff, duration, retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1.5s", 1.5),
        ("2m30.5s", 150.5),
        ("20", 20.0),
        ("1h", LONGEST_WAIT),
        ("soon", 0.0),
        ("", 0.0),
        ("-3", 0.0),
        ("nan", 0.0),
        ("inf", LONGEST_WAIT),
    ],
)
def test_a_duration_is_read_as_rate_limit_headers_write_it(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    assert retry_after({}) == 0.0
    assert retry_after({"retry-after": "7"}) == 7.0
    assert retry_after({"retry-after": "7", "retry-after-ms": "250"}) == 0.25
    assert retry_after({"retry-after": "1e9"}) == LONGEST_WAIT
    assert retry_after({"retry-after": "-1"}) == 0.0
    assert retry_after({"retry-after": "when I say so"}) == 0.0
    assert retry_after({"retry-after": email.utils.formatdate(time.time() + 40, usegmt=True)}) == pytest.approx(
        40, abs=2
    )
    assert retry_after({"retry-after": email.utils.formatdate(time.time() - 40, usegmt=True)}) == 0.0


def test_only_a_limit_that_is_used_up_holds_requests_back() -> None:
    pace = Pace()
    left = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "30s"}
    assert pace.heed(left) == 0.0
    gone = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "30s", **left}
    assert pace.heed(gone) == 30.0
    assert pace.heed({"x-ratelimit-remaining-requests": "many"}) == 0.0


def test_requests_wait_until_the_endpoint_is_ready() -> None:
    async def waited() -> float:
        pace = Pace()
        pace.heed({"retry-after": "0.15"})
        pace.heed({"retry-after": "0.01"})  # a shorter wait does not cut a longer one short
        started = time.monotonic()
        await pace.ready()
        return time.monotonic() - started

    assert asyncio.run(waited()) >= 0.14


def test_backoff_grows_to_a_bound_and_is_never_the_same_for_all() -> None:
    for attempt, most in ((1, 1.0), (3, 4.0), (30, 30.0)):
        waits = [backoff(attempt) for _ in range(50)]
        assert all(0.1 * most <= wait <= most for wait in waits)
        assert len(set(waits)) == 50
