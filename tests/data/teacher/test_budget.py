"""A budget is never exceeded, and stops only when nothing in flight could still free a part of it."""

import asyncio

import pytest

from alignvec.data.teacher.budget import Budget, Limits, Prices
from alignvec.data.teacher.request import Answer, Request
from alignvec.errors import BudgetError, ConfigError

REQUEST = Request("m", (("user", "x" * 40),), 0.0, 1.0, 50, 0)
MOST = 40 + 16 + 50


def answer(prompt: int, completion: int) -> Answer:
    return Answer("x", "stop", prompt, completion, "t")


def test_cost_is_money_per_million_tokens() -> None:
    assert Prices(0.15, 0.6).cost(2_000_000, 500_000) == pytest.approx(0.6)


def test_a_budget_in_money_needs_prices() -> None:
    with pytest.raises(ConfigError, match="--price-in"):
        Budget(Prices(), Limits(money=1.0))


def test_a_prompt_of_any_script_has_no_more_tokens_than_are_reserved() -> None:
    prompt = "痛み止めを飲んでもいいですか。" * 10
    request = Request("m", (("system", "é"), ("user", prompt)), 0.0, 1.0, 50, 0)
    assert request.most_prompt_tokens == 2 + 3 * len(prompt) + 32  # a byte-level tokenizer has a token a byte at most


def test_no_limit_never_stops() -> None:
    async def run() -> None:
        budget = Budget(Prices(), Limits())
        for _ in range(1000):
            async with budget.reserved(REQUEST):
                budget.charge(answer(10**6, 10**6))

    asyncio.run(run())


@pytest.mark.parametrize("limits", [Limits(tokens=1000), Limits(money=0.001), Limits(tokens=1000, money=0.001)])
def test_requests_at_once_never_take_more_than_the_limit(limits: Limits) -> None:
    async def run() -> tuple[Budget, int]:
        budget = Budget(Prices(1.0, 1.0), limits)

        async def one() -> None:
            async with budget.reserved(REQUEST):
                await asyncio.sleep(0.001)
                budget.charge(answer(28, 50))

        done = await asyncio.gather(*(one() for _ in range(40)), return_exceptions=True)
        assert {type(each) for each in done} == {type(None), BudgetError}
        return budget, sum(each is None for each in done)

    budget, finished = asyncio.run(run())
    assert budget.prompt_tokens + budget.completion_tokens == 78 * finished <= 1000
    assert 78 * (finished + 1) + MOST - 78 > 1000, "one more would have fitted"


def test_a_request_waits_for_those_in_flight_before_it_gives_up() -> None:
    async def run() -> str:
        budget = Budget(Prices(), Limits(tokens=MOST + 10))
        second = asyncio.Event()

        async def first() -> None:
            async with budget.reserved(REQUEST):
                await second.wait()
                budget.charge(answer(5, 5))

        async def later() -> str:
            second.set()
            async with budget.reserved(REQUEST):
                return "got its turn"

        _, said = await asyncio.gather(first(), later())
        return said

    assert asyncio.run(run()) == "got its turn"


def test_what_earlier_runs_spent_counts() -> None:
    async def run() -> None:
        budget = Budget(Prices(1.0, 2.0), Limits(tokens=1000), spent=(900, 50))
        assert budget.money == pytest.approx((900 + 100) / 1e6)
        with pytest.raises(BudgetError, match=r"1,000 tokens leaves no room .* \(950 tokens"):
            async with budget.reserved(REQUEST):
                pass

    asyncio.run(run())


def test_a_request_that_fails_gives_its_part_back() -> None:
    async def run() -> None:
        budget = Budget(Prices(), Limits(tokens=MOST))
        for _ in range(3):
            with pytest.raises(OSError, match="gone"):
                async with budget.reserved(REQUEST):
                    raise OSError("gone")

    asyncio.run(run())
