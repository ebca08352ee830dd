"""When the next request may go out: Retry-After and rate-limit headers hold back all requests at once."""

import asyncio
import contextlib
import email.utils
import math
import random
import re
import time
from collections.abc import Mapping

LONGEST_WAIT = 600.0
FIRST_WAIT, LARGEST_WAIT = 0.5, 30.0
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")


class Pace:
    """A clock that all requests to one endpoint share."""

    def __init__(self) -> None:
        self._not_before = 0.0

    @property
    def left(self) -> float:
        """Seconds that requests are still held back."""
        return max(self._not_before - time.monotonic(), 0.0)

    async def ready(self) -> None:
        """Wait until no header asks for patience any more."""
        while (left := self.left) > 0:
            await asyncio.sleep(left)

    def heed(self, headers: Mapping[str, str]) -> float:
        """Hold back all requests as long as the headers of an answer ask for; returns that time in seconds."""
        wait = max(retry_after(headers), _exhausted(headers))
        self._not_before = max(self._not_before, time.monotonic() + wait)
        return wait


def backoff(attempt: int) -> float:
    """Seconds before another attempt: exponential, with full jitter, so that clients do not come back together."""
    return random.uniform(0.1, 1.0) * min(FIRST_WAIT * 2.0**attempt, LARGEST_WAIT)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that `Retry-After` (seconds or an HTTP date) or `retry-after-ms` asks for; 0 if none."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        if (value := headers.get(name)) is None:
            continue
        with contextlib.suppress(ValueError):
            return _bounded(float(value) * unit)
        with contextlib.suppress(ValueError):
            return _bounded(email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0


def _exhausted(headers: Mapping[str, str]) -> float:
    """Seconds until a limit that is used up is reset (`x-ratelimit-remaining-*` and `x-ratelimit-reset-*`)."""
    waits = [0.0]
    for kind in ("requests", "tokens"):
        try:
            remaining = float(headers.get(f"x-ratelimit-remaining-{kind}", "1"))
        except ValueError:
            continue
        if remaining < 1:
            waits.append(duration(headers.get(f"x-ratelimit-reset-{kind}", "0")))
    return max(waits)


def duration(text: str) -> float:
    """Seconds in `6m0s`, `120ms`, `1.5s` or a bare number of seconds; 0 if it is none of these."""
    found = _DURATION.findall(text)
    if found and _DURATION.sub("", text).strip() == "":
        return _bounded(sum(float(number) * _UNITS[unit] for number, unit in found))
    try:
        return _bounded(float(text))
    except ValueError:
        return 0.0


def _bounded(seconds: float) -> float:
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT)
