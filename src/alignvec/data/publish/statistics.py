"""What a file of rows is like: how many, how long, how readable, how diverse, and what gives the level away."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict

from alignvec.data.confound import FOLDS, held_out_accuracy, length_classifier, text_classifier
from alignvec.data.publish.measure import MISSING, Measured
from alignvec.data.schema import Split
from alignvec.data.unspaced import words as words_of

BIN = 10
"""Words to a bin of the overlap, and of the histogram."""


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spread(_Report):
    """Mean, standard deviation (n - 1; None for one value) and quartiles (linear interpolation) of n values."""

    n: int
    mean: float
    sd: float | None
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float

    @classmethod
    def of(cls, values: object) -> Self | None:
        """Spread of an array of numbers, NaN left out; None if none is left."""
        import numpy as np

        array = np.asarray(values, dtype=np.float64)
        array = array[~np.isnan(array)]
        if not array.size:
            return None
        low, lower, median, upper, high = (float(q) for q in np.quantile(array, (0, 0.25, 0.5, 0.75, 1)))
        return cls(
            n=array.size,
            mean=float(array.mean()),
            sd=float(array.std(ddof=1)) if array.size > 1 else None,
            minimum=low,
            lower_quartile=lower,
            median=median,
            upper_quartile=upper,
            maximum=high,
        )


class Part(_Report):
    """How much there is of one domain in one split."""

    domain: str
    split: Split
    rows: int
    personas: int
    topics: int


class LevelStatistics(_Report):
    """The replies at one level.

    Attributes:
        words: number of words.
        reading_ease: Flesch reading ease; None if it was not measured (another language than English).
        grade: Flesch-Kincaid grade, likewise.
        distinct_words: different words in the sampled replies, as a share of all their words (distinct-1).
        distinct_pairs: the same for pairs of neighbouring words (distinct-2); None if there is no pair.
        duplicates: replies that an earlier row has word for word.
    """

    words: Spread
    reading_ease: Spread | None
    grade: Spread | None
    distinct_words: float | None
    distinct_pairs: float | None
    duplicates: int


class Neighbours(_Report):
    """How the lengths at a level compare with those at the next higher one.

    Attributes:
        overlap: share that the histograms of words (bins of `BIN`) have in common; 1 if they are the same.
        longer: share of rows whose reply at the higher level is the longer one; a draw counts half.
    """

    lower: str
    higher: str
    overlap: float
    longer: float


class Confound(_Report):
    """How well the level is predicted for replies to personas not learned from, by cross-validation.

    Attributes:
        folds: most folds of the cross-validation.
        chance: accuracy of a guess; every row has every level once.
        by_word_count: accuracy from the number of words alone, over all rows; None if it cannot be measured.
        by_words: accuracy from the words (TF-IDF), over the sampled rows; likewise.
    """

    folds: int = FOLDS
    chance: float
    by_word_count: float | None
    by_words: float | None


class Origins(_Report):
    """Number of rows by where they come from; `missing` counts rows that do not say."""

    missing: int
    personas: Mapping[str, int]
    licences: Mapping[str, int]
    teachers: Mapping[str, int]
    judges: Mapping[str, int]
    prompts: Mapping[str, int]
    sampling: Mapping[str, int]
    first_time: str | None
    last_time: str | None

    @property
    def known_teachers(self) -> tuple[str, ...]:
        """Models that are named as writers."""
        return tuple(name for name in self.teachers if name != MISSING)


class Statistics(_Report):
    """All of it.

    Attributes:
        sampled_rows: rows that `by_words` and the distinct shares were measured on: those with the smallest hashes of
            their ids.
        duplicate_queries: queries that an earlier row has word for word.
    """

    rows: int
    personas: int
    levels: tuple[str, ...]
    parts: tuple[Part, ...]
    by_level: Mapping[str, LevelStatistics]
    neighbours: tuple[Neighbours, ...]
    duplicate_queries: int
    sampled_rows: int
    confound: Confound
    origins: Origins

    def rows_of(self, split: Split) -> int:
        """Number of rows of a split."""
        return sum(part.rows for part in self.parts if part.split == split)


def statistics(measured: Measured) -> Statistics:
    """Statistics of what was measured."""
    levels = measured.levels
    return Statistics(
        rows=measured.rows,
        personas=len(set(measured.personas)),
        levels=levels,
        parts=tuple(
            Part(domain=domain, split=split, rows=tally.rows, personas=len(tally.personas), topics=len(tally.topics))
            for (domain, split), tally in measured.tallies()
        ),
        by_level={level: _level(measured, level) for level in levels},
        neighbours=tuple(_neighbours(measured, lower, higher) for lower, higher in pairwise(levels)),
        duplicate_queries=measured.duplicate_queries,
        sampled_rows=len(measured.sample),
        confound=_confound(measured),
        origins=Origins(missing=measured.no_provenance, **measured.origins()),
    )


def _level(measured: Measured, level: str) -> LevelStatistics:
    words = Spread.of(measured.words[level])
    assert words is not None, "a measured file has rows"
    texts = [words_of(row.responses[level].lower()) for row in measured.sample]
    pairs = [pair for text in texts for pair in pairwise(text)]
    singles = [word for text in texts for word in text]
    return LevelStatistics(
        words=words,
        reading_ease=Spread.of(measured.reading_ease[level]),
        grade=Spread.of(measured.grade[level]),
        distinct_words=len(set(singles)) / len(singles) if singles else None,
        distinct_pairs=len(set(pairs)) / len(pairs) if pairs else None,
        duplicates=measured.duplicate_replies[level],
    )


def _neighbours(measured: Measured, lower: str, higher: str) -> Neighbours:
    import numpy as np

    low, high = (np.asarray(measured.words[level]) for level in (lower, higher))
    bins = max(low.max(), high.max()) // BIN + 1
    shares = [np.bincount(words // BIN, minlength=bins) / words.size for words in (low, high)]
    return Neighbours(
        lower=lower,
        higher=higher,
        overlap=float(np.minimum(*shares).sum()),
        longer=float(((high > low) + 0.5 * (high == low)).mean()),
    )


def _confound(measured: Measured) -> Confound:
    import numpy as np

    levels, sample = measured.levels, measured.sample
    counts = np.concatenate([np.asarray(measured.words[level], dtype=np.float64) for level in levels])
    labels = np.repeat(np.arange(len(levels)), measured.rows)
    return Confound(
        chance=1 / len(levels),
        by_word_count=held_out_accuracy(
            length_classifier(), counts[:, None], labels, np.tile(measured.personas, len(levels))
        ),
        by_words=held_out_accuracy(
            text_classifier(),
            [" ".join(words_of(row.responses[level])) for level in levels for row in sample],
            np.repeat(np.arange(len(levels)), len(sample)),
            [row.persona for _ in levels for row in sample],
        ),
    )
