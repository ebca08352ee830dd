"""What a load test says: percentiles of the times that users wait, throughput, and how requests ended."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from alignvec.serve.load.outcome import Outcome


class Percentiles(BaseModel):
    """Percentiles of seconds, interpolated linearly between the two nearest values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    p50: float
    p95: float
    p99: float


class Goals(BaseModel):
    """What a user should have to wait for at most, in seconds.

    Attributes:
        first_token: for the first text.
        per_token: for each token after the first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first_token: float = 2.0
    per_token: float = 0.2


class Summary(BaseModel):
    """Numbers of one load test; times are in seconds, of answered requests only.

    Attributes:
        requests: how many were sent.
        kinds: how many ended in each way (see `Kind`).
        statuses: how many had each HTTP status; `none` where there was no answer.
        seconds: from the first request due to the last one's end.
        first_token: until the first text, from when the request was due; None if nothing was answered.
        per_token: mean over the tokens of a reply after its first.
        between: between two pieces of text, over all replies.
        tokens_per_s: tokens of answered requests.
        requests_per_s: answered requests.
        goodput_per_s: answered requests that met both goals.
        largest_lag: by which the client sent a request late, at worst; if it is not small, the client was the limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: int
    kinds: dict[str, int]
    statuses: dict[str, int]
    seconds: float
    first_token: Percentiles | None
    per_token: Percentiles | None
    between: Percentiles | None
    tokens_per_s: float
    requests_per_s: float
    goodput_per_s: float
    largest_lag: float


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """p50, p95 and p99 of values in seconds; None of no values."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(np.asarray(values, dtype=float), (50, 95, 99))
    return Percentiles(p50=float(p50), p95=float(p95), p99=float(p99))


def summarize(outcomes: Sequence[Outcome], goals: Goals | None = None) -> Summary:
    """The numbers of a load test with at least one request.

    Args:
        outcomes: one a request.
        goals: what counts as good enough; default `Goals()`.
    """
    answered = [one for one in outcomes if one.kind == "answered"]
    seconds = max(one.due + one.seconds for one in outcomes) - min(one.due for one in outcomes)
    good = sum(_meets(one, goals or Goals()) for one in answered)

    def rate(count: int) -> float:
        return count / seconds if seconds > 0 else 0.0

    return Summary(
        requests=len(outcomes),
        kinds=dict(sorted(Counter(one.kind for one in outcomes).items())),
        statuses=dict(sorted(Counter(str(one.status or "none") for one in outcomes).items())),
        seconds=seconds,
        first_token=percentiles([one.first for one in answered if one.first is not None]),
        per_token=percentiles([one.per_token for one in answered if one.per_token is not None]),
        between=percentiles([gap for one in answered for gap in one.gaps]),
        tokens_per_s=rate(sum(one.tokens for one in answered)),
        requests_per_s=rate(len(answered)),
        goodput_per_s=rate(good),
        largest_lag=max(one.lag for one in outcomes),
    )


def _meets(outcome: Outcome, goals: Goals) -> bool:
    wait, pace = outcome.first, outcome.per_token
    return (wait is None or wait <= goals.first_token) and (pace is None or pace <= goals.per_token)
