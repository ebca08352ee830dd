"""What the teacher may cost: prices, a limit that is never exceeded, and what was spent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from alignvec.data.teacher.request import Answer, Request
from alignvec.errors import BudgetError, ConfigError


@dataclass(frozen=True)
class Prices:
    """Money per million tokens, in any one currency; zero for a server of one's own."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Money for so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Limits:
    """The most that may be spent in all, earlier runs on the same answers included; None is no limit."""

    tokens: int | None = None
    money: float | None = None


class Budget:
    """Lets a request start only if it cannot exceed the limits, whatever it and those in flight will take.

    An endpoint that writes more than `max_tokens` (hidden reasoning, say) can still exceed them, by what is in flight.

    Args:
        prices: money per million tokens.
        limits: the most that may be spent.
        spent: prompt and completion tokens spent by earlier runs.

    Raises:
        ConfigError: if a limit in money is given without prices.
    """

    def __init__(self, prices: Prices, limits: Limits, spent: tuple[int, int] = (0, 0)) -> None:
        if limits.money is not None and prices == Prices():
            raise ConfigError("a budget in money needs --price-in and --price-out (money per million tokens)")
        self.prices = prices
        self.limits = limits
        self.prompt_tokens, self.completion_tokens = spent
        self._held: list[tuple[int, int]] = []
        self._freed = asyncio.Condition()

    @property
    def money(self) -> float:
        """Money spent."""
        return self.prices.cost(self.prompt_tokens, self.completion_tokens)

    @asynccontextmanager
    async def reserved(self, request: Request) -> AsyncIterator[None]:
        """Hold what a request may take at most; waits for others in flight if it might exceed a limit.

        Raises:
            BudgetError: if it might exceed a limit with nothing else in flight.
        """
        need = (request.most_prompt_tokens, request.max_tokens)
        async with self._freed:
            while not self._fits(need):
                if not self._held:
                    raise BudgetError(self._stopped())
                await self._freed.wait()
            self._held.append(need)
        try:
            yield
        finally:
            self._held.remove(need)
            async with self._freed:
                self._freed.notify_all()

    def charge(self, answer: Answer) -> None:
        """Count an answer's tokens."""
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens

    def _fits(self, need: tuple[int, int]) -> bool:
        prompt = self.prompt_tokens + need[0] + sum(held for held, _ in self._held)
        completion = self.completion_tokens + need[1] + sum(held for _, held in self._held)
        tokens_fit = self.limits.tokens is None or prompt + completion <= self.limits.tokens
        return tokens_fit and (self.limits.money is None or self.prices.cost(prompt, completion) <= self.limits.money)

    def _stopped(self) -> str:
        tokens = self.prompt_tokens + self.completion_tokens
        limits = [f"{self.limits.tokens:,} tokens"] if self.limits.tokens is not None else []
        limits += [f"{self.limits.money:g} in money"] if self.limits.money is not None else []
        return (
            f"the budget of {' and '.join(limits)} leaves no room for the next request ({tokens:,} tokens, "
            f"{self.money:.4g} in money spent); what is finished is in the folder, and the same command with a larger "
            "budget goes on"
        )
