"""Slots for requests in flight; a free one goes to the most urgent, so that rows begun are finished first."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Urgency = tuple[int, str]
"""Smaller is more urgent: the step, last steps first, then the item's id, earlier items first."""


class Slots:
    """At most `count` holders at once.

    Args:
        count: number of slots.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._asked = 0
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def held(self, urgency: Urgency) -> AsyncIterator[None]:
        """Hold a slot; of those who wait, the most urgent gets the next free one."""
        if self._free > 0:
            self._free -= 1
        else:
            await self._turn(urgency)
        try:
            yield
        finally:
            self._pass_on()

    async def _turn(self, urgency: Urgency) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked += 1
        heapq.heappush(self._waiting, (urgency, self._asked, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot came, but too late
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
