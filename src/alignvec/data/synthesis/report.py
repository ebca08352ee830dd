"""What a build did, in numbers: made, rejected and why, asked, spent."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from alignvec.data.synthesis.records import Rejected


class Counts(BaseModel):
    """One stage.

    Attributes:
        made: how many came out.
        failed: how many did not, by gate.
        retried: texts that failed a gate and were asked for again, by gate.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    made: int
    failed: dict[str, int]
    retried: dict[str, int]


class Spending(BaseModel):
    """What the teacher (and judge) did.

    Attributes:
        answers: answers that came in this run.
        cached: answers that were there from earlier runs.
        retries: cause to the number of attempts that failed of it in this run.
        prompt_tokens: of all answers kept, earlier runs included.
        completion_tokens: likewise.
        money: their cost.
        seconds: this run took.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: int
    cached: int
    retries: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    money: float
    seconds: float


class BuildReport(BaseModel):
    """Result of a build.

    Attributes:
        domain: its name.
        personas: counts of personas; None if the run had nothing to do with them.
        queries: counts of queries; likewise.
        replies: level to counts of replies; likewise empty.
        rows: counts of rows; likewise.
        splits: rows a split.
        spending: on teacher and judge.
        stopped: why it stopped early; None if it did not.
        notes: what the user should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    personas: Counts | None
    queries: Counts | None
    replies: dict[str, Counts]
    rows: Counts | None
    splits: dict[str, int]
    spending: Spending
    stopped: str | None = None
    notes: list[str] = []

    def made(self, stage: Literal["personas", "queries", "rows"]) -> int:
        """How many a stage made; 0 if it was not run."""
        counts: Counts | None = getattr(self, stage)
        return counts.made if counts else 0


@dataclass
class Tally:
    """Counts kept while a build runs."""

    made: Counter[str] = field(default_factory=Counter)
    failed: dict[str, Counter[str]] = field(default_factory=dict)
    retried: dict[str, Counter[str]] = field(default_factory=dict)
    splits: Counter[str] = field(default_factory=Counter)

    def reject(self, rejected: Rejected) -> None:
        """Count a rejected text."""
        kind = self.failed if rejected.final else self.retried
        kind.setdefault(_counted_as(rejected.stage, rejected.level), Counter())[rejected.gate] += 1

    def counts(self, stage: str, level: str | None = None) -> Counts:
        """Counts of a stage (personas, queries, replies, rows) so far; replies by level.

        Replies that passed are counted only in rows: a passed reply of a rejected row is not used.
        """
        name = stage if level is None else f"{stage}/{level}"
        return Counts(
            made=self.made["rows" if stage == "replies" else stage],
            failed=dict(self.failed.get(name, Counter()).most_common()),
            retried=dict(self.retried.get(name, Counter()).most_common()),
        )


_PLURAL = {"persona": "personas", "query": "queries", "reply": "replies", "row": "rows"}


def _counted_as(stage: str, level: str | None) -> str:
    return _PLURAL[stage] if level is None else f"{_PLURAL[stage]}/{level}"
