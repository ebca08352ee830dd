"""How strongly a method is applied for each domain and level, and which values of that are tried."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self, TypeAlias

from alignvec.errors import ConfigError
from alignvec.reproduce.methods.method import Goal, Method

Strengths: TypeAlias = Mapping[str, Mapping[str, float]]
"""Domain to level to strength: a knob's λ, the weight of a mixed model, or α of a control vector."""


class Tunable(Method):
    """A method with a strength for each domain and level, chosen on validation queries."""

    strengths: Strengths

    @abstractmethod
    def with_strengths(self, strengths: Strengths) -> Self:
        """The same method at other strengths; tensors are shared."""

    def candidates(self, levels: Sequence[str], level: str, amounts: Sequence[float]) -> tuple[float, ...]:
        """Strengths to choose from, as many as there are amounts, so that every method searches as long.

        Here those of a signed axis from the lowest level to the highest: the amounts for the highest, their negatives
        for the lowest; for a level between them 0, and up to the least amount to either side.

        Args:
            levels: lowest first.
            level: one of them.
            amounts: positive numbers.
        """
        if level == levels[-1]:
            return tuple(amounts)
        if level == levels[0]:
            return tuple(-amount for amount in amounts)
        return between(amounts)

    def strength(self, domain: str, level: str) -> float:
        """Of one domain and level.

        Raises:
            ConfigError: if none was chosen.
        """
        try:
            return self.strengths[domain][level]
        except KeyError:
            raise ConfigError(
                f"{self.name} has no strength for {domain}={level}; choose one with choose_strengths"
            ) from None

    def strengths_of(self, goal: Goal) -> dict[str, float]:
        """Domain to strength, for a goal."""
        return {domain: self.strength(domain, level) for domain, level in goal.items()}


def between(amounts: Sequence[float]) -> tuple[float, ...]:
    """0 and values to both sides of it, none beyond the least amount, as many as there are amounts."""
    least, steps = min(amounts), len(amounts) // 2
    sides = [sign * least * step / steps for step in range(1, steps + 1) for sign in (1, -1)]
    return (0.0, *sides)[: len(amounts)]
