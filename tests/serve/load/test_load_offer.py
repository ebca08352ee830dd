"""Open loop: arrivals are a Poisson process, do not wait for answers, and none is lost."""

import asyncio
import itertools
import math

import pytest

from alignvec.errors import ConfigError
from alignvec.serve.load.client import open_client
from alignvec.serve.load.offer import offer, poisson_arrivals
from alignvec.serve.load.outcome import Outcome, chat_probe
from tests.serve.load.scripted_server import scripted_server


def run(url: str, prompts: list[str], due: list[float]) -> list[Outcome]:
    async def load() -> list[Outcome]:
        async with open_client(url) as client:
            probes = [chat_probe(p, model="m", max_tokens=4, nonce=f"n{i}") for i, p in enumerate(prompts)]
            return await offer(client, probes, due, patience=60)

    return asyncio.run(load())


def test_arrivals_are_a_poisson_process() -> None:
    due = poisson_arrivals(4.0, 20_001, seed=3)
    gaps = [b - a for a, b in itertools.pairwise(due)]
    assert due[0] == 0.0
    assert sum(gaps) / len(gaps) == pytest.approx(0.25, rel=0.03)
    for x in (0.1, 0.25, 1.0):  # an exponential law, 1 - exp(-rate x), within 4 standard errors
        share, law = sum(gap <= x for gap in gaps) / len(gaps), 1 - math.exp(-4 * x)
        assert abs(share - law) < 4 * math.sqrt(law * (1 - law) / len(gaps))


def test_arrivals_depend_on_the_seed_alone() -> None:
    assert poisson_arrivals(2.0, 5, seed=1) == poisson_arrivals(2.0, 9, seed=1)[:5]
    assert poisson_arrivals(2.0, 5, seed=1) != poisson_arrivals(2.0, 5, seed=2)
    assert len(poisson_arrivals(2.0, 1, seed=1)) == 1


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="--rate"):
        poisson_arrivals(rate, 3, seed=0)


def test_requests_do_not_wait_for_answers() -> None:
    with scripted_server(hold=12) as (url, script):  # answers none before the twelfth has come
        outcomes = run(url, [f"question {i}" for i in range(12)], [0.01 * i for i in range(12)])
    assert [one.kind for one in outcomes] == ["answered"] * 12
    assert script.waiting == 12


def test_every_request_has_one_outcome_in_order_with_its_own_reply() -> None:
    prompts = [("refuse", "cut", "reset", "error")[i % 8 // 2] if i % 2 else f"question {i}" for i in range(40)]
    with scripted_server() as (url, script):
        outcomes = run(url, prompts, [0.0] * 40)
    expected = {"refuse": "refused", "cut": "cut", "reset": "cut", "error": "failed"}
    assert [one.kind for one in outcomes] == [expected.get(p, "answered") for p in prompts]
    assert [one.probe.nonce for one in outcomes] == [f"n{i}" for i in range(40)]
    answered = [(i, one) for i, one in enumerate(outcomes) if one.kind == "answered"]
    assert all((one.text, one.echoed) == (f"question {i} {{}}", f"n{i}") for i, one in answered)
    assert len(script.bodies) == 40
