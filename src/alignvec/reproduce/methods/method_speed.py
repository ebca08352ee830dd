"""How fast methods reply, by running them in turn."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from alignvec.models import BaseModel
from alignvec.reproduce.methods.method import Goal, Method
from alignvec.reproduce.spread import Spread
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.strict import Strict


class Speed(Strict):
    """What the rounds took.

    Attributes:
        batch: requests at once.
        first_token: seconds to the first token of all of them.
        tokens_per_second: of all of them together, after the first token.
        peak_bytes: most memory that a round took beside what was there before; None on a CPU.
    """

    batch: int
    first_token: Spread
    tokens_per_second: Spread
    peak_bytes: int | None


def measure_speeds(
    methods: Sequence[Method],
    queries: Sequence[str],
    goal: Goal,
    *,
    batch: int,
    new_tokens: int = 32,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Speed]:
    """Time replies of exactly `new_tokens` tokens, and of one, all methods in every round, so that they share its load.

    A first round that warms up is not counted.

    Args:
        methods: to measure, of one base.
        queries: asked in turn, `batch` at a time, from the beginning again where they end.
        goal: asked for in every row.
        batch: requests at once.
        new_tokens: of each reply, 2 or more.
        rounds: that are counted.
        clock: seconds.
        advance: called with what was done and the total, of methods and rounds.

    Returns:
        Speed by name of the method.
    """
    base = methods[0].base
    firsts: dict[str, list[float]] = {method.name: [] for method in methods}
    rates: dict[str, list[float]] = {method.name: [] for method in methods}
    peaks: dict[str, list[int]] = {method.name: [] for method in methods}

    def seconds(method: Method, asked: Sequence[str], tokens: int) -> float:
        start = clock()
        method.reply(asked, [goal] * len(asked), GREEDY.model_copy(update={"max_new_tokens": tokens}))
        return clock() - start

    with _endless(base):
        for number in range(rounds + 1):
            asked = [queries[(number * batch + i) % len(queries)] for i in range(batch)]
            for method in methods:
                before = _start_watch(base)
                first, whole = (seconds(method, asked, tokens) for tokens in (1, new_tokens))
                if number:
                    firsts[method.name].append(first)
                    rates[method.name].append(batch * (new_tokens - 1) / max(whole - first, 1e-9))
                    if before is not None:
                        peaks[method.name].append(torch.cuda.max_memory_allocated(base.device) - before)
                advance(1, len(methods) * (rounds + 1))
    return {
        name: Speed(
            batch=batch,
            first_token=Spread.of(firsts[name]),
            tokens_per_second=Spread.of(rates[name]),
            peak_bytes=max(peaks[name], default=None),
        )
        for name in firsts
    }


def _start_watch(base: BaseModel) -> int | None:
    """Bytes on the GPU before a run whose peak is watched from now; None on a CPU."""
    if base.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(base.device)
    return torch.cuda.memory_allocated(base.device)


@contextmanager
def _endless(base: BaseModel) -> Iterator[None]:
    """Replies do not end before their longest length."""
    settings = base.model.generation_config
    ends, settings.eos_token_id = settings.eos_token_id, None
    try:
        yield
    finally:
        settings.eos_token_id = ends
