"""Prompting: the level is asked for in words (zero-shot), or shown by earlier turns (few-shot)."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from alignvec.data.domain import load_domain
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError
from alignvec.logprobs import encode_prompt
from alignvec.models import BaseModel
from alignvec.reproduce.cost.ways import SHOTS
from alignvec.reproduce.methods.method import Goal, Method, encoded
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling

Turns: TypeAlias = list[dict[str, str]]


class Prompting(Method):
    """Turns before the query, which the base reads at every request.

    A query's sampling noise is that of the query without these turns, so that replies differ from the base's by what
    the turns do and not by luck, as those of all other methods.
    """

    new_goal = "write a prompt"

    def __init__(self, name: str, base: BaseModel) -> None:
        super().__init__(name, base, train_seconds=0.0)
        self._model = KnobbedModel(base)

    @abstractmethod
    def before(self, goal: Goal) -> Turns:
        """Turns that come before the query; none without a goal.

        Raises:
            ConfigError: if the method has nothing for one of the goal's levels.
        """

    def reply(self, queries: Sequence[str], goals: Sequence[Goal], sampling: Sampling) -> list[str]:
        """See `Method.reply`."""
        bare = [{"role": "user", "content": query} for query in queries]
        chats = [[*self.before(goal), turn] for turn, goal in zip(bare, goals, strict=True)]
        keys = [encode_prompt(self.base.tokenizer, [turn]) for turn in bare]
        return [reply.text for reply in self._model.continuations(chats, {}, sampling, keys=keys)]

    def score(self, queries: Sequence[str], replies: Sequence[Sequence[str]], goals: Sequence[Goal]) -> torch.Tensor:
        """See `Method.score`."""
        rows = [
            encoded(self.base, query, texts, self.before(goal))
            for query, texts, goal in zip(queries, replies, goals, strict=True)
        ]
        return self._model.score(rows, {})

    def settings(self, goal: Goal) -> dict[str, Any]:
        """The turns before the query, and what the noise is seeded by."""
        return {"before": self.before(goal), "noise": "query"}


class ZeroShot(Prompting):
    """A system prompt: "If the question is medical: … If the question is legal: …", also for a single domain.

    Args:
        base: the base model.
        instructions: domain to level to instruction.
    """

    asks = "an instruction a domain"

    def __init__(self, base: BaseModel, instructions: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__("zero-shot", base)
        self._instructions = instructions

    @property
    def fixed(self) -> dict[str, Any]:
        """The instructions."""
        return {"instructions": {domain: dict(levels) for domain, levels in self._instructions.items()}}

    def before(self, goal: Goal) -> Turns:
        """One system message."""
        told = [f"If the question is {domain}: {self._instruction(domain, level)}" for domain, level in goal.items()]
        return [{"role": "system", "content": "\n".join(told)}] if told else []

    def _instruction(self, domain: str, level: str) -> str:
        try:
            return self._instructions[domain][level]
        except KeyError:
            raise ConfigError(f"no instruction for {domain}={level}; give one, or check the goal") from None


class FewShot(Prompting):
    """Training queries with replies of the wanted level as earlier turns.

    Every domain that the goal names has as many, its first training rows; they come in rounds, one of each domain at a
    time, so that no domain's stand all together just before the query.

    Args:
        base: the base model.
        train: rows of all domains.
        shots: of each domain.
    """

    asks = "example turns a domain"

    def __init__(self, base: BaseModel, train: Sequence[PreferenceRow], shots: int = SHOTS) -> None:
        super().__init__(f"{shots}-shot", base)
        self._shots = shots
        self._rows: dict[str, list[PreferenceRow]] = {}
        for row in train:
            found = self._rows.setdefault(row.domain, [])
            if len(found) < shots:
                found.append(row)

    @property
    def fixed(self) -> dict[str, Any]:
        """The rows."""
        return {"shots": {domain: [row.id for row in rows] for domain, rows in self._rows.items()}}

    def before(self, goal: Goal) -> Turns:
        """Earlier turns of user and assistant."""
        turns: Turns = []
        shown = {domain: self._of(domain, level) for domain, level in goal.items()}
        for i in range(self._shots):
            for domain, level in goal.items():
                row = shown[domain][i]
                turns.append({"role": "user", "content": row.query})
                turns.append({"role": "assistant", "content": row.responses[level]})
        return turns

    def _of(self, domain: str, level: str) -> list[PreferenceRow]:
        rows = self._rows.get(domain, [])
        if len(rows) < self._shots:
            raise ConfigError(f"{self.name} needs {self._shots} training rows of {domain}, but there are {len(rows)}")
        if any(level not in row.responses for row in rows):
            raise ConfigError(f"the training rows of {domain} have no replies at level {level!r}; check the goal")
        return rows


def shipped_instructions(domains: Sequence[str]) -> dict[str, dict[str, str]]:
    """Instructions of domain files (`recipes/domains`), those that the shipped data was written with.

    Raises:
        DataError: if there is no such domain.
    """
    return {name: {level: one.instruction for level, one in load_domain(name).levels.items()} for name in domains}
