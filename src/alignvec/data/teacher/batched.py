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
from alignvec.errors import DataError, KnobError


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
        super().__init__(cache, budget)
        self._start = place.start
        self._engine: BatchEngine | None = None
        self._batch_size = place.in_flight
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
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._count += 1
            heapq.heappush(self._waiting, (urgency, self._count, request, future))
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._run())
            return await future

    async def _run(self) -> None:
        while self._waiting:
            await self._gathered()
            batch = [heapq.heappop(self._waiting) for _ in range(min(self._batch_size, len(self._waiting)))]
            batch = [one for one in batch if not one[-1].done()]
            if batch:
                await self._answer(batch)

    async def _gathered(self) -> None:
        """Wait until nobody who could ask now has anything more to ask, or the batch is full."""
        before = -1
        while before < len(self._waiting) < self._batch_size:
            before = len(self._waiting)
            for _ in range(8):  # a task that was just answered takes some turns to ask for what comes next
                await asyncio.sleep(0)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Answer a batch; one that fails for what is asked is halved until the fault is alone with its request."""
        try:
            answers = await asyncio.to_thread(self._call, [request for _, _, request, _ in batch])
            for (_, _, request, future), answer in zip(batch, answers, strict=True):
                self._keep(request, answer)
                if not future.done():
                    future.set_result(answer)
        except (DataError, KnobError) as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._answer(batch[:middle])
                await self._answer(batch[middle:])
            else:
                _fail(batch, NoAnswerError(str(error)))
        except BaseException as error:  # not of these requests alone: whoever else waits would meet it too
            _fail([*batch, *self._waiting], error)
            self._waiting.clear()

    def _call(self, requests: Sequence[Request]) -> list[Answer]:
        if self._engine is None:
            self._engine = self._start()
        return self._engine.answer(requests)


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for *_, future in batch:
        if not future.done():
            future.set_exception(error)
