"""How fast a method replies, by running it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import torch

from alignvec.models import BaseModel
from alignvec.reproduce.methods.method import Goal, Method
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.strict import Strict


class Speed(Strict):
    """Medians over runs.

    Attributes:
        batch: requests at once.
        first_token: seconds to the first token of all of them.
        tokens_per_second: of all of them together, after the first token.
        peak_bytes: most memory that a run took beside what was there before; None on a CPU.
    """

    batch: int
    first_token: float
    tokens_per_second: float
    peak_bytes: int | None


def measure_speed(
    method: Method, queries: Sequence[str], goal: Goal, *, batch: int, new_tokens: int = 32, rounds: int = 5
) -> Speed:
    """Time replies of exactly `new_tokens` tokens, and of one; a first run that warms up is not counted.

    Args:
        method: to measure.
        queries: asked in turn, `batch` at a time, from the beginning again where they end.
        goal: asked for in every row.
        batch: requests at once.
        new_tokens: of each reply, 2 or more.
        rounds: runs.
    """
    device, firsts, rates, peaks = method.base.device, [], [], []
    with _endless(method.base):
        for number in range(rounds + 1):
            asked = [queries[(number * batch + i) % len(queries)] for i in range(batch)]
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_allocated(device)
            first, whole = (_seconds(method, asked, goal, tokens) for tokens in (1, new_tokens))
            if number:
                firsts.append(first)
                rates.append(batch * (new_tokens - 1) / max(whole - first, 1e-9))
                if device.type == "cuda":
                    peaks.append(torch.cuda.max_memory_allocated(device) - before)
    return Speed(
        batch=batch,
        first_token=median(firsts),
        tokens_per_second=median(rates),
        peak_bytes=int(median(peaks)) if peaks else None,
    )


def _seconds(method: Method, queries: Sequence[str], goal: Goal, tokens: int) -> float:
    start = time.perf_counter()
    method.reply(queries, [goal] * len(queries), GREEDY.model_copy(update={"max_new_tokens": tokens}))
    return time.perf_counter() - start


@contextmanager
def _endless(base: BaseModel) -> Iterator[None]:
    """Replies do not end before their longest length."""
    settings = base.model.generation_config
    ends, settings.eos_token_id = settings.eos_token_id, None
    try:
        yield
    finally:
        settings.eos_token_id = ends
