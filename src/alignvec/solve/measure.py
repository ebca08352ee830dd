"""What the model does at some settings, over the queries of several domains at once."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import LevelScores, score_levels
from alignvec.solve.box import Box, Points
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.fingerprint import fingerprint

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measured:
    """Likelihoods and levels at some settings.

    Attributes:
        points: the settings, [points, axes].
        rows: the queries of all domains.
        scores: log-probabilities of the reference replies; its settings are the points.
        said: level of each generated reply, as its index in `scores.levels`, [points, rows]; None if there are none.
    """

    points: Points
    rows: tuple[PreferenceRow, ...]
    scores: LevelScores
    said: npt.NDArray[np.int64] | None

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of the queries, in the order in which they come."""
        return tuple(dict.fromkeys(row.domain for row in self.rows))

    def of(self, domain: str) -> npt.NDArray[np.bool_]:
        """Which rows are a domain's, [rows]."""
        return np.array([row.domain == domain for row in self.rows])


class Meter:
    """Measures settings, each once: what the journal has is not measured again.

    Args:
        model: with the vectors of the box.
        box: the knobs.
        rows: queries of all domains, with reference replies at the same levels.
        judge: gives generated replies their level; without one nothing is generated.
        sampling: how replies are decoded.
        data: name of the data, for the journal.
        journal: a file that a killed run goes on from.

    Raises:
        DataError: if rows differ in their levels, or the journal belongs to something else.
    """

    def __init__(
        self,
        model: KnobbedModel,
        box: Box,
        rows: Sequence[PreferenceRow],
        *,
        judge: LevelJudge | None = None,
        sampling: Sampling | None = None,
        data: str,
        journal: Path | None = None,
    ) -> None:
        self.box = box
        self.rows = tuple(rows)
        self.levels = levels_of(rows)
        self._model, self._judge, self._sampling = model, judge, sampling or Sampling()
        self._journal = Journal(journal, _scope(model, box, self._sampling, data, rows))

    def measure(self, points: Points, advance: Advance = lambda *_: None, *, batch_size: int = 16) -> Measured:
        """Measure settings.

        Args:
            points: [points, axes].
            advance: called with a task's name, what was done and the total.
            batch_size: replies generated at once.
        """
        settings = [self.box.knobs(point) for point in points]
        total = len(self.rows) * (len(settings) + 1)
        scores = score_levels(
            self._model, self.rows, self.levels, settings,
            journal=self._journal, advance=lambda n: advance("scoring", n, total),
        )  # fmt: skip
        said = None
        if self._judge:
            count = len(self.rows) * len(settings)
            replies = generate_replies(
                self._model, self.rows, settings, self._sampling,
                journal=self._journal, batch_size=batch_size,
                advance=lambda n: advance("generating", n, count),
            )  # fmt: skip
            index = {level: i for i, level in enumerate(self.levels)}
            said = np.array([[index[level] for level in self._judge.verdicts(column)] for column in replies])
        return Measured(np.asarray(points, dtype=np.float64), self.rows, scores, said)


def _scope(
    model: KnobbedModel, box: Box, sampling: Sampling, data: str, rows: Sequence[PreferenceRow]
) -> dict[str, Any]:
    return {
        "vectors": {name: model.vectors[name].card.files for name in box.names},
        "sampling": sampling.model_dump(),
        "data": data,
        "rows": hashlib.sha256("\n".join(row.model_dump_json() for row in rows).encode()).hexdigest()[:16],
        "base": fingerprint(model.base.folder),
        "dtype": str(model.base.model.dtype),
    }
