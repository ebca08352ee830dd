"""A level judge that needs no network: a classifier over the training replies, its own accuracy beside its verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from alignvec.data.confound import length_classifier, text_classifier, word_count
from alignvec.data.load import SHIPPED, levels_of, load_rows
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.judging import Item, Verdict
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.vectors.strict import Interval

TEST_ONLY = ("general", "ratings")
"""Shipped files that have no training rows."""


class JudgeReport(BaseModel):
    """How far the judge can be trusted, on reference replies it was not trained on.

    Attributes:
        trained_on: number of training replies.
        held_out: number of held-out replies.
        accuracy: share of them judged right, with its interval.
        length_accuracy: the same for a judge that sees only the number of words: what length alone gives away.
        confusion: true level to (judged level to number of replies).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trained_on: int
    held_out: int
    accuracy: Interval
    length_accuracy: Interval
    confusion: dict[str, dict[str, int]]

    def summary(self) -> str:
        """One line for people."""
        a, n = self.accuracy, self.length_accuracy
        return (
            f"judge: {a.told()} right on {self.held_out} held-out reference replies "
            f"(word count alone: {n.value:.2f}); generated prose is harder, see docs/results"
        )

    def confusion_text(self) -> str:
        """True level to verdicts, on the held-out reference replies."""
        rows = (f"{true}: " + ", ".join(f"{n} {v}" for v, n in row.items()) for true, row in self.confusion.items())
        return "judge's verdicts by true level: " + "; ".join(rows)


@dataclass(frozen=True)
class LevelJudge:
    """Assigns one of the levels to a reply.

    Attributes:
        levels: names of the levels, lowest first.
        report: the judge's own accuracy.
    """

    levels: tuple[str, ...]
    report: JudgeReport
    _classifier: Any
    name: ClassVar[str] = "classifier"

    def verdicts(self, replies: Sequence[str]) -> list[str]:
        """Level of each reply."""
        return [str(level) for level in self._classifier.predict(list(replies))] if replies else []

    def judge(self, items: Sequence[Item], levels: Sequence[str]) -> list[Verdict]:
        """A verdict for every item; an empty reply has none.

        Raises:
            DataError: if the classifier was trained on other levels.
        """
        if set(levels) != set(self.levels):
            raise DataError(
                f"the classifier tells {', '.join(self.levels)} apart, not {', '.join(levels)}; name data of one kind"
            )
        said = self.verdicts([item.reply for item in items])
        return [
            Verdict(level=level) if item.reply.strip() else Verdict(missing="empty reply")
            for item, level in zip(items, said, strict=True)
        ]

    def about(self) -> str:
        """Its accuracy on reference replies."""
        return self.report.summary().replace("judge:", "classifier:", 1)


def train_judge(train: Sequence[PreferenceRow], held_out: Sequence[PreferenceRow], levels: Sequence[str]) -> LevelJudge:
    """Train a text classifier, and beside it one that sees only word counts; deterministic.

    Args:
        train: rows to learn from.
        held_out: rows of other personas, for the report.
        levels: levels to tell apart.

    Raises:
        DataError: if a persona is in both.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    if shared := {r.persona for r in train} & {r.persona for r in held_out}:
        raise DataError(f"{len(shared)} personas are in the judge's training and held-out rows; split by persona")
    for row in (*train, *held_out):
        if set(row.responses) != set(levels):
            raise DataError(
                f"row {row.id} has levels {', '.join(row.responses)}, but the judge needs {', '.join(levels)} in all"
            )
    texts, labels, _ = _flat(train, levels)
    judge = text_classifier()
    try:
        judge.fit(texts, labels)
    except ValueError as error:
        raise DataError(f"no judge can be trained on {len(texts)} replies ({error}); use --generate 0") from error
    length = make_pipeline(FunctionTransformer(_word_counts), length_classifier()).fit(texts, labels)
    return LevelJudge(tuple(levels), _report(judge, length, len(texts), held_out, levels), judge)


def judge_for(*data: Path) -> LevelJudge:
    """The judge of some data files: trained on their train splits, checked on their test splits.

    Of shipped data all domains count, whichever of them is named.

    Raises:
        DataError: if a file has no train or no test split.
    """
    own = [path for path in dict.fromkeys(data) if path.resolve().parent != SHIPPED]
    shipped = [path for path in sorted(SHIPPED.glob("*.jsonl")) if path.stem not in TEST_ONLY]
    files = [*(shipped if len(own) < len(set(data)) else []), *own]
    train = [row for path in files for row in load_rows(path, split="train")]
    held_out = [row for path in files for row in load_rows(path, split="test")]
    return train_judge(train, held_out, levels_of(train))


def _report(
    judge: Any, length: Any, trained_on: int, held_out: Sequence[PreferenceRow], levels: Sequence[str]
) -> JudgeReport:
    texts, labels, personas = _flat(held_out, levels)
    said = [str(v) for v in judge.predict(texts)]
    by_length = [str(v) for v in length.predict(texts)]
    confusion = {true: dict.fromkeys(levels, 0) for true in levels}
    for true, verdict in zip(labels, said, strict=True):
        confusion[true][verdict] += 1
    return JudgeReport(
        trained_on=trained_on,
        held_out=len(texts),
        accuracy=bootstrap_rate([float(a == b) for a, b in zip(said, labels, strict=True)], personas),
        length_accuracy=bootstrap_rate([float(a == b) for a, b in zip(by_length, labels, strict=True)], personas),
        confusion=confusion,
    )


def _flat(rows: Sequence[PreferenceRow], levels: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    items = [(row.responses[level], level, row.persona) for row in rows for level in levels]
    texts, labels, personas = (list(column) for column in zip(*items, strict=True))
    return texts, labels, personas


def _word_counts(texts: Sequence[str]) -> Any:
    return np.array([[word_count(text)] for text in texts], dtype=np.float64)
