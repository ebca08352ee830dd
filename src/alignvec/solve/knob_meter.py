"""What one knob does at some λ: which level is preferred and said, and whether the model still holds up."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.data.domain import Domain
from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.loop import is_degenerate
from alignvec.data.languages import LANGUAGES
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import LevelScores, score_levels
from alignvec.evaluate.scope import rows_digest, scope_of
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.calibration import Limits

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
BATCH = 48
"""Replies generated at once."""
FAR = 20.0
"""Nats a token above the base beyond which perplexity is not told apart (a factor of 5e8), or is no number."""


@dataclass(frozen=True)
class Position:
    """Behaviour at one λ.

    Attributes:
        coefficient: λ.
        levels: lowest first.
        preferred: index of the level of the likeliest reference reply per token, [queries].
        said: index of the level of the generated reply, [queries replied to].
        perplexity: of the general text, as a multiple of the base's.
        degenerate: whether a reply is empty or loops, [queries replied to].
        off_language: whether a reply is in another language, [queries replied to].
    """

    coefficient: float
    levels: tuple[str, ...]
    preferred: Indices
    said: Indices
    perplexity: float
    degenerate: Flags
    off_language: Flags

    def level_rate(self) -> dict[str, float]:
        """Level to share of generated replies."""
        return self._shares(self.said)

    def preference_rate(self) -> dict[str, float]:
        """Level to share of queries."""
        return self._shares(self.preferred)

    def broken(self, base: "Position", limits: Limits) -> tuple[str, ...]:
        """Names of the limits that do not hold.

        Args:
            base: the position at λ = 0.
        """
        excess = {
            "perplexity": self.perplexity - limits.perplexity,
            "degenerate": self.degenerate.mean() - base.degenerate.mean() - limits.degenerate,
            "off_language": self.off_language.mean() - base.off_language.mean() - limits.off_language,
        }
        return tuple(name for name, value in excess.items() if value > 1e-9)

    def _shares(self, found: Indices) -> dict[str, float]:
        counts = np.bincount(found, minlength=len(self.levels))
        return {level: float(count / len(found)) for level, count in zip(self.levels, counts, strict=True)}


class KnobMeter:
    """Measures one knob at values of λ; what the journal has is not measured again.

    Attributes:
        levels: of the rows, lowest first.
        named: levels of the vector's card, lowest first; the rows' if it names none.

    Args:
        model: with the vector loaded.
        vector: name of the knob.
        rows: queries with reference replies.
        texts: rows of general text; the middle one of their levels is scored, given its query.
        judge: gives generated replies their level.
        generate: number of rows to generate replies for, the first ones; default all.
        language: code of the language that replies should be in.
        sampling: how replies are decoded.
        data: name of the data and split.
        text: name of the general text.
        journal: a file that a killed run goes on from.

    Raises:
        ConfigError: if the language cannot be told, or the language identifier is not installed.
        DataError: if the judge or the vector's card knows other levels than the rows have, or the journal belongs to
            something else.
    """

    def __init__(
        self,
        model: KnobbedModel,
        vector: str,
        rows: Sequence[PreferenceRow],
        texts: Sequence[PreferenceRow],
        judge: LevelJudge,
        *,
        generate: int | None = None,
        language: str = "en",
        sampling: Sampling | None = None,
        data: str,
        text: str,
        journal: Path | None = None,
    ) -> None:
        self.levels = levels_of(rows)
        if set(judge.levels) != set(self.levels):
            raise DataError(
                f"the judge tells {', '.join(judge.levels)} apart, but the rows have {', '.join(self.levels)}; "
                "every split needs the same levels"
            )
        self.named = tuple(model.vectors[vector].card.levels) or self.levels
        if unknown := [level for level in self.named if level not in self.levels]:
            raise DataError(
                f"the card of {vector} names the level {unknown[0]}, but the rows have {', '.join(self.levels)}; "
                "name data with the vector's levels with --data"
            )
        self.rows, self.replied = tuple(rows), tuple(rows[:generate])
        self.data, self.text, self.language = data, text, language
        self.judge, self.sampling = judge, sampling or Sampling()
        self._model, self._vector = model, vector
        self._foreign = _foreign(language)
        spoken = levels_of(texts)
        self._text_level = spoken[len(spoken) // 2]
        # Ids of their own, as a file of rows may serve as text too.
        self._texts = [row.model_copy(update={"id": f"text {row.id}"}) for row in texts]
        scope = scope_of(model, [vector], self.sampling, data, rows)
        self._journal = Journal(journal, {**scope, "text": [text, rows_digest(texts)]})

    def measure(self, coefficients: Sequence[float], advance: Callable[[int], None] = lambda _: None) -> list[Position]:
        """Behaviour at every λ, in the order given.

        Args:
            advance: called with the number of replies done.

        Raises:
            DataError: if a row does not fit the model's context.
        """
        settings = [{self._vector: value} for value in coefficients]
        scores = score_levels(self._model, self.rows, self.levels, settings, journal=self._journal)
        general = score_levels(self._model, self._texts, [self._text_level], settings, journal=self._journal)
        replies = generate_replies(
            self._model, self.replied, settings, self.sampling,
            journal=self._journal, batch_size=BATCH, advance=advance,
        )  # fmt: skip
        preferred = (scores.sums / scores.counts).argmax(axis=2)
        return [
            Position(
                coefficient=value,
                levels=self.levels,
                preferred=preferred[i],
                said=np.array([self.levels.index(level) for level in self.judge.verdicts(column)]),
                perplexity=_perplexity(general, i),
                degenerate=np.array([is_degenerate(reply) for reply in column]),
                off_language=np.array([self._foreign(reply) for reply in column]),
            )
            for i, (value, column) in enumerate(zip(coefficients, replies, strict=True))
        ]


def _perplexity(scores: LevelScores, setting: int) -> float:
    """Perplexity of all texts together over the base's."""
    excess = float((scores.base - scores.sums[setting]).sum() / scores.counts.sum())
    return math.exp(excess) if excess < FAR else math.exp(FAR)


def _foreign(code: str) -> Callable[[str], bool]:
    """Tells whether a text is in another language than `code`."""
    if code not in LANGUAGES:
        raise ConfigError(f"no language {code!r} can be told apart; use one of {', '.join(LANGUAGES)}")
    try:
        import py3langid  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(
            "telling languages apart needs py3langid; install it with pip install 'alignvec[data]'"
        ) from None
    from alignvec.data.gates.language import language

    asked: dict[str, Any] = {"language": code}  # all that the gate wants to know of a domain
    wanted = Domain.model_construct(**asked)
    return lambda text: language(Candidate(text, wanted)) is not None
