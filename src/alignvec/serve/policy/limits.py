"""Requests per minute of each key, in a moving window."""

import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from alignvec.serve.errors import RateLimitedError
from alignvec.serve.policy.rules import Rules


class RateLimits:
    """Counts the requests of the last 60 seconds by the keys' names; a refused request does not count."""

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def admit(self, rules: Rules, replies: int = 1) -> None:
        """Count a request, as many times as it wants replies; the last may go over the limit.

        Raises:
            RateLimitedError: if the key has used up its requests; `retry_after` is when the oldest one is forgotten.
        """
        if rules.requests_per_minute is None:
            return
        item = RateLimitItemPerMinute(rules.requests_per_minute)
        if self._window.hit(item, rules.name):
            for _ in range(replies - 1):
                self._window.hit(item, rules.name)
            return
        wait = max(0.0, self._window.get_window_stats(item, rules.name).reset_time - time.time())
        raise RateLimitedError(
            f"{rules.name!r} has used its {rules.requests_per_minute} requests per minute; try again in {wait:.0f} s",
            retry_after=wait,
        )
