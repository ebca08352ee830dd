"""An engine in this process as one that answers requests: whoever asks at once shares a batch."""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from alignvec.data.teacher.answering import Answering, NoAnswerError
from alignvec.data.teacher.budget import Budget
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.request import Answer, Request
from alignvec.data.teacher.slots import Urgency
from alignvec.errors import DataError, KnobError, TeacherError

REFUSED_IN_A_ROW = 50
"""Requests that an engine may refuse one after the other; then it seems to refuse all, and is asked no more."""


class BatchEngine(Protocol):
    """Answers many requests in one call."""

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer to every request, in their order; called from another thread, one call at a time.

        Raises:
            DataError: if a request cannot be answered; those of its batch are then asked again in smaller batches.
            KnobError: likewise.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """An engine of this process in place of an endpoint.

    Attributes:
        start: starts it, when it is first needed.
        in_flight: most requests in one batch.
    """

    start: Callable[[], BatchEngine]
    in_flight: int


_Waiting = tuple[Urgency, int, Request, "asyncio.Future[Answer]"]


class BatchedTeacher(Answering):
    """Asks an engine, through a cache and within a budget.

    While a batch is being answered, requests gather; the most urgent of them make the next batch.

    Args:
        place: the engine, and how large its batches are.
        cache: answers that are there already, and where new ones go.
        budget: what it may cost.
    """

    def __init__(self, place: InProcess, cache: AnswerCache, budget: Budget) -> None:
        super().__init__(cache, budget, place.in_flight)
        self._start = place.start
        self._engine: BatchEngine | None = None
        self._refused_in_a_row = 0
        self._stopped: BaseException | None = None
        self._waiting: list[_Waiting] = []
        self._count = 0
        self._running: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Give up what waits; a batch that is being answered is finished first, as its thread cannot be stopped."""
        for *_, future in self._waiting:
            future.cancel()
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    async def _fresh(self, request: Request, urgency: Urgency) -> Answer:
        async with self.budget.reserved(request):
            if self._stopped is not None:
                raise self._stopped
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._count += 1
            heapq.heappush(self._waiting, (urgency, self._count, request, future))
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._run())
            return await future

    async def _run(self) -> None:
        while self._waiting:
            await self._gathered()
            batch = [heapq.heappop(self._waiting) for _ in range(min(self.at_once, len(self._waiting)))]
            batch = [one for one in batch if not one[-1].done()]
            if not batch:
                continue
            try:
                if self._engine is None:
                    self._engine = await asyncio.to_thread(self._start)
                await self._answer(self._engine, batch)
            except BaseException as error:  # not of these requests alone: whoever else asks would meet it too
                self._stopped = error
                _fail([*batch, *self._waiting], error)
                self._waiting.clear()

    async def _gathered(self) -> None:
        """Wait until nobody who could ask now has anything more to ask, or the batch is full."""
        before = -1
        while before < len(self._waiting) < self.at_once:
            before = len(self._waiting)
            for _ in range(8):  # a task that was just answered takes some turns to ask for what comes next
                await asyncio.sleep(0)

    async def _answer(self, engine: BatchEngine, batch: Sequence[_Waiting]) -> None:
        """Answer a batch; one that fails for what is asked is halved until the fault is alone with its request."""
        try:
            answers = await asyncio.to_thread(engine.answer, [request for _, _, request, _ in batch])
            self._refused_in_a_row = 0
            for (_, _, request, future), answer in zip(batch, answers, strict=True):
                self._keep(request, answer)
                if not future.done():
                    future.set_result(answer)
        except (DataError, KnobError) as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._answer(engine, batch[:middle])
                await self._answer(engine, batch[middle:])
                return
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= REFUSED_IN_A_ROW:
                raise TeacherError(
                    f"{self._refused_in_a_row} requests in a row were refused, the last one so: {error}; answers so "
                    "far are kept, and the same command goes on when that is mended"
                ) from error
            _fail(batch, NoAnswerError(str(error)))


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for *_, future in batch:
        if not future.done():
            future.set_exception(error)
