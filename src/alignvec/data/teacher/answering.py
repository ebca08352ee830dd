"""What all that answer requests have in common: each answer is asked for once, and kept before it is used."""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from types import TracebackType
from typing import Self

from alignvec.data.teacher.budget import Budget
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.request import Answer, Request
from alignvec.data.teacher.slots import Urgency
from alignvec.errors import AlignvecError


class NoAnswerError(AlignvecError):
    """One request got no answer for a reason of its own, or after all attempts; others may."""


class Answering(ABC):
    """Answers requests through a cache and within a budget; many may be asked at once.

    Attributes:
        budget: limits, and what was spent.
        at_once: most requests that are being answered at one time.
        requests: answers that were not in the cache.
        cached: answers that were.
        retries: cause to the number of attempts that failed of it.

    Args:
        cache: answers that are there already, and where new ones go.
        budget: what it may cost.
        at_once: most requests that are being answered at one time.
    """

    def __init__(self, cache: AnswerCache, budget: Budget, at_once: int) -> None:
        self.budget = budget
        self.at_once = at_once
        self.requests = 0
        self.cached = 0
        self.retries: Counter[str] = Counter()
        self._cache = cache
        self._asked: dict[str, asyncio.Event] = {}

    @property
    def held_back(self) -> float:
        """Seconds for which nothing may be asked."""
        return 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def ask(self, request: Request, urgency: Urgency = (0, "")) -> Answer:
        """The answer to a request, from the cache or anew; kept before it is returned.

        Args:
            request: what to ask.
            urgency: which of the requests that wait goes out first.

        Raises:
            NoAnswerError: if this request is refused, or fails at every attempt.
            TeacherError: if all requests are refused, nobody can be reached, or many fail in a row.
            BudgetError: if the answer might exceed the budget.
        """
        key = request.key
        while (asked := self._asked.get(key)) is not None:
            await asked.wait()
        if (known := self._cache.get(request)) is not None:
            self.cached += 1
            return known
        self._asked[key] = asyncio.Event()
        try:
            answer = await self._fresh(request, urgency)
        finally:
            self._asked.pop(key).set()
        self.requests += 1
        return answer

    @abstractmethod
    async def close(self) -> None:
        """Let go of what is held open."""

    @abstractmethod
    async def _fresh(self, request: Request, urgency: Urgency) -> Answer:
        """An answer that the cache does not have; kept before it is returned."""

    def _keep(self, request: Request, answer: Answer) -> None:
        self._cache.put(request, answer)
        self.budget.charge(answer)
