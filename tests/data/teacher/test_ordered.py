"""Concurrent work whose results come in order, with bounded work in hand."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.data.teacher.ordered import ordered


@given(count=st.integers(0, 40), window=st.integers(1, 10), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_results_keep_the_order_whoever_is_first(count: int, window: int, seed: int) -> None:
    generator = random.Random(seed)
    in_hand: list[int] = []
    most = 0

    async def work(item: int) -> int:
        nonlocal most
        in_hand.append(item)
        most = max(most, len(in_hand))
        for _ in range(generator.randrange(5)):
            await asyncio.sleep(0)
        in_hand.remove(item)
        return item * item

    async def run() -> list[int]:
        return [result async for result in ordered(range(count), work, window=window)]

    assert asyncio.run(run()) == [n * n for n in range(count)]
    assert most <= window


def test_work_is_really_done_at_once() -> None:
    gate = asyncio.Barrier(4)

    async def work(item: int) -> int:
        await asyncio.wait_for(gate.wait(), 5)  # passes only if four are at work
        return item

    async def run() -> list[int]:
        return [result async for result in ordered(range(8), work, window=4)]

    assert asyncio.run(run()) == list(range(8))


def test_items_are_read_only_as_far_as_the_window_needs() -> None:
    read: list[int] = []

    async def items() -> AsyncIterator[int]:
        for n in range(100):
            read.append(n)
            yield n

    async def work(item: int) -> int:
        await asyncio.sleep(0.001)
        return item

    async def run() -> None:
        results = ordered(items(), work, window=3)
        assert await anext(results) == 0
        assert len(read) <= 4
        await results.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_those_begun_after_a_failure_are_finished_before_it_is_raised() -> None:
    finished: list[int] = []

    async def work(item: int) -> int:
        if item == 1:
            raise ValueError("item 1")
        await asyncio.sleep(0.01)
        finished.append(item)
        return item

    async def run() -> list[int]:
        got = []
        with pytest.raises(ValueError, match="item 1"):
            async for result in ordered(range(10), work, window=4):
                got.append(result)
        return got

    assert asyncio.run(run()) == [0]
    assert sorted(finished) == [0, 2, 3]


def test_a_source_that_fails_loses_none_of_what_was_begun() -> None:
    async def items() -> AsyncIterator[int]:
        for n in range(5):
            yield n
        raise ValueError("no more")

    async def work(item: int) -> int:
        await asyncio.sleep(0.001)
        return item

    async def run() -> list[int]:
        got = []
        with pytest.raises(ValueError, match="no more"):
            async for result in ordered(items(), work, window=4):
                got.append(result)
        return got

    assert asyncio.run(run()) == [0, 1, 2, 3, 4]
