"""Requests per minute: counted by key, in a moving window that a patched clock moves."""

import time

import pytest

from alignvec.serve.errors import RateLimitedError
from alignvec.serve.policy.limits import RateLimits
from alignvec.serve.policy.rules import Rules

TWO = Rules(name="public", requests_per_minute=2)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(time, "time", lambda: self.now)


def test_a_slot_is_free_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limits = Clock(monkeypatch), RateLimits()
    limits.admit(TWO)
    clock.now += 20
    limits.admit(TWO)
    clock.now += 10
    for _ in range(3):  # refused requests do not count
        with pytest.raises(RateLimitedError) as caught:
            limits.admit(TWO)
        assert caught.value.retry_after == pytest.approx(30)
        assert "2 requests per minute" in str(caught.value)
        assert caught.value.status == 429
    clock.now += 30.5
    limits.admit(TWO)
    with pytest.raises(RateLimitedError) as caught:
        limits.admit(TWO)
    assert caught.value.retry_after == pytest.approx(19.5)


def test_keys_are_counted_apart_and_some_have_no_limit() -> None:
    limits = RateLimits()
    for name in ("a", "b"):
        limits.admit(Rules(name=name, requests_per_minute=1))
    with pytest.raises(RateLimitedError):
        limits.admit(Rules(name="a", requests_per_minute=1))
    for _ in range(1000):
        limits.admit(Rules(name="a"))
