"""What the engine is asked for, and what it gives back token by token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from alignvec.steer.sampling import Sampling


@dataclass(frozen=True)
class Job:
    """One reply to generate.

    Attributes:
        prompt: token ids.
        sampling: how to decode; the reply ends at the model's own end of turn or after `max_new_tokens`.
        knobs: coefficient λ by vector name.
        logprobs: None for no log-probabilities; 0 for the chosen token's; N for the N likeliest tokens' too.
        vectors: the set that the knobs are of, see `Engine.loaded`; None for the one that is loaded when it begins.
    """

    prompt: Sequence[int]
    sampling: Sampling
    knobs: Mapping[str, float] = field(default_factory=dict)
    logprobs: int | None = None
    vectors: Any = None


@dataclass(frozen=True)
class Step:
    """One token of a reply.

    Attributes:
        token: id.
        logprob: natural log of its probability under the model with its knobs, before temperature and top-p.
        top: likeliest tokens with their log-probabilities, likeliest first.
        finish: on the last step, `stop` if the token ended the turn (it is not part of the text), `length` if cut off.
    """

    token: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = ()
    finish: Literal["stop", "length"] | None = None


@dataclass(frozen=True)
class Load:
    """How busy an engine is.

    Attributes:
        running: requests that have a row in the batch.
        waiting: requests in the queue.
        room: how many requests, running and waiting, are accepted before they are refused.
        free: share of the cache of keys and values that is free.
    """

    running: int
    waiting: int
    room: int
    free: float
