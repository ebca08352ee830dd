"""Open-loop load: requests come when they are due, whether or not earlier ones have been answered."""

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import accumulate

import httpx2

from alignvec.errors import ConfigError
from alignvec.serve.load.client import ask
from alignvec.serve.load.outcome import Outcome, Probe


def poisson_arrivals(rate: float, count: int, *, seed: int) -> list[float]:
    """Seconds at which so many requests of a Poisson process are due, the first at 0.

    Args:
        rate: requests per second, on average.
        count: how many.
        seed: of the draws.

    Raises:
        ConfigError: if the rate is not above 0.
    """
    if not 0 < rate < float("inf"):
        raise ConfigError(f"{rate} requests per second is no rate; use a number above 0, like --rate 2")
    draw = random.Random(seed)
    return list(accumulate((draw.expovariate(rate) for _ in range(count - 1)), initial=0.0))[:count]


async def offer(
    client: httpx2.AsyncClient, probes: Sequence[Probe], due: Sequence[float], *, patience: float = 300.0
) -> list[Outcome]:
    """Send every request when it is due, and wait for all of them; one outcome a request, in the order of `probes`.

    Args:
        client: see `open_client`.
        probes: the requests.
        due: seconds from now at which each is due, rising.
        patience: seconds after which a request is given up.
    """
    start = time.perf_counter()
    tasks = []
    for probe, offset in zip(probes, due, strict=True):
        await asyncio.sleep(max(0.0, start + offset - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(client, probe, due=start + offset, patience=patience)))
    return list(await asyncio.gather(*tasks))
