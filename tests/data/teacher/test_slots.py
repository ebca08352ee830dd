"""Slots go to the most urgent, are never too many, and are not lost by those who stop waiting."""

import asyncio

from alignvec.data.teacher.slots import Slots


def test_the_most_urgent_gets_the_next_slot() -> None:
    async def run() -> list[str]:
        slots, order = Slots(1), []

        async def one(step: int, name: str) -> None:
            async with slots.held((step, name)):
                order.append(f"{step}{name}")
                await asyncio.sleep(0)

        async with slots.held((9, "first")):
            waiting = [asyncio.create_task(one(*who)) for who in ((2, "b"), (1, "c"), (2, "a"), (0, "z"), (1, "c"))]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        return order

    assert asyncio.run(run()) == ["0z", "1c", "1c", "2a", "2b"]


def test_there_are_never_more_holders_than_slots_and_all_get_one() -> None:
    async def run() -> tuple[int, int]:
        slots = Slots(3)
        now = most = done = 0

        async def one(number: int) -> None:
            nonlocal now, most, done
            async with slots.held((number % 4, str(number))):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.0005 * (number % 3))
                now -= 1
                done += 1

        await asyncio.gather(*(one(n) for n in range(50)))
        return most, done

    assert asyncio.run(run()) == (3, 50)


def test_who_stops_waiting_or_fails_takes_no_slot_along() -> None:
    async def run() -> str:
        slots = Slots(1)

        async def one(urgency: int) -> None:
            async with slots.held((urgency, "")):
                raise ValueError("failed")

        async with slots.held((0, "")):
            early, late = asyncio.create_task(one(1)), asyncio.create_task(one(2))
            await asyncio.sleep(0)
            early.cancel()
        late.cancel()  # it was given the slot, but has not run since
        await asyncio.gather(early, late, one(3), return_exceptions=True)
        async with asyncio.timeout(1), slots.held((0, "")):
            return "free"

    assert asyncio.run(run()) == "free"
