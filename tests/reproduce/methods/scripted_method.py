"""A method and a judge whose answers are known: a reply is the name of a level, and the judge reads it."""

from collections.abc import Sequence
from typing import Any

import torch

from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.judge import JudgeReport
from alignvec.models import BaseModel
from alignvec.reproduce.methods.method import Goal
from alignvec.reproduce.methods.strengths import Strengths, Tunable
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval

LEVELS = ("avoidance", "generic", "expert")
DOMAINS = ("medical", "legal", "financial")


def scripted_rows(split: str = "test", count: int = 4) -> list[PreferenceRow]:
    return [
        PreferenceRow(
            id=f"{domain}-{i}", domain=domain, split=split, topic="t", persona=f"{domain} {split} {i // 2}",
            query=f"{domain} {i}?", responses=dict(zip(LEVELS, ("no", "maybe so", "surely yes"), strict=True)),
        )
        for domain in DOMAINS
        for i in range(count)
    ]  # fmt: skip


class ScriptedJudge:
    levels = LEVELS
    report = JudgeReport(
        trained_on=3, held_out=3, confusion={},
        accuracy=Interval(value=1.0, low=0.9, high=1.0), length_accuracy=Interval(value=0.5, low=0.4, high=0.6),
    )  # fmt: skip

    def verdicts(self, replies: Sequence[str]) -> list[str]:
        starts = [reply.partition(" ")[0] for reply in replies]
        return [start if start in LEVELS else "generic" for start in starts]


class ScriptedMethod(Tunable):
    """Says the level that is wanted of the query's domain where the strength is `works`, else `generic`.

    With `spills`, it says the first domain's level whatever the domain.
    """

    asks, new_goal = "by script", "nothing"
    loops = ""
    """A level that is said again and again instead of once."""

    def __init__(
        self, base: BaseModel, strengths: Strengths, works: dict[str, tuple[float, ...]], spills: bool = False
    ) -> None:
        super().__init__("spilling" if spills else "scripted", base, train_seconds=7.0)
        self.strengths, self.works, self.spills = strengths, works, spills
        self.calls: list[int] = []

    def with_strengths(self, strengths: Strengths) -> "ScriptedMethod":
        made = ScriptedMethod(self.base, strengths, self.works, self.spills)
        made.calls, made.loops = self.calls, self.loops
        return made

    def reply(self, queries: Sequence[str], goals: Sequence[Goal], sampling: Sampling) -> list[str]:
        self.calls.append(len(queries))
        levels = [self._level(query.split()[0], goal) for query, goal in zip(queries, goals, strict=True)]
        return [f"{level} it is then" if level != self.loops else f"{level} " * 40 for level in levels]

    def _level(self, domain: str, goal: Goal) -> str:
        if self.spills and domain not in goal:
            domain = next(iter(goal), domain)
        level = goal.get(domain, "generic")
        return level if domain in goal and self.strength(domain, level) in self.works[level] else "generic"

    def score(self, queries: Sequence[str], replies: Sequence[Sequence[str]], goals: Sequence[Goal]) -> torch.Tensor:
        return torch.tensor([[-1.0, *[-9.0] * (len(texts) - 1)] for texts in replies])

    def settings(self, goal: Goal) -> dict[str, Any]:
        return {domain: [goal[domain], value] for domain, value in self.strengths_of(goal).items()}

    @property
    def fixed(self) -> dict[str, Any]:
        return {"spills": self.spills}
