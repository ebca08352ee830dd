"""Slots for requests in flight: fewer while the endpoint asks for patience; a free one goes to the most urgent."""

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
        self._count = count
        self._allowed = float(count)
        self._busy = 0
        self._asked = 0
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def held(self, urgency: Urgency) -> AsyncIterator[None]:
        """Hold a slot; of those who wait, the most urgent gets the next free one."""
        if self._busy < int(self._allowed) and not self._waiting:
            self._busy += 1
        else:
            await self._turn(urgency)
        try:
            yield
        finally:
            self._busy -= 1
            self._pass_on()

    def narrow(self) -> None:
        """Half as many from now on, but one at least: the endpoint has turned a request away."""
        self._allowed = max(1.0, self._allowed / 2)

    def widen(self) -> None:
        """One more for as many answers as there are slots now, up to the number given at first."""
        self._allowed = min(float(self._count), self._allowed + 1 / self._allowed)
        self._pass_on()

    async def _turn(self, urgency: Urgency) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked += 1
        heapq.heappush(self._waiting, (urgency, self._asked, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot came, but too late
                self._busy -= 1
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting and self._busy < int(self._allowed):
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._busy += 1
                turn.set_result(None)
