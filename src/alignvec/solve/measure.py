"""What the model does at some settings, over the queries of several domains at once."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import LevelScores, score_levels
from alignvec.evaluate.scope import rows_digest, scope_of
from alignvec.solve.box import Box, Points
from alignvec.solve.seconds import Clock, Phase
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import turn_by
from alignvec.steer.sampling import Sampling

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measured:
    """Likelihoods and levels at some settings.

    Attributes:
        points: the settings, [points, axes].
        rows: the queries of all domains.
        scores: log-probabilities of the reference replies; its settings are the points.
        said: level of each generated reply, as its index in `scores.levels`, [points, rows]; None if there are none.
        general: of texts outside the domains, one reply a text; None if there are none.
    """

    points: Points
    rows: tuple[PreferenceRow, ...]
    scores: LevelScores
    said: npt.NDArray[np.int64] | None
    general: LevelScores | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of the queries, in the order in which they come."""
        return tuple(dict.fromkeys(row.domain for row in self.rows))

    def of(self, domain: str) -> npt.NDArray[np.bool_]:
        """Which rows are a domain's, [rows]."""
        return np.array([row.domain == domain for row in self.rows])


class Source(Protocol):
    """What measures settings of a box: a `Meter`, or what stands for one."""

    @property
    def box(self) -> Box:
        """The knobs."""

    def measure(
        self, points: Points, advance: Advance = ..., *, shares: npt.NDArray[np.float64] | None = None
    ) -> Measured:
        """What was measured; see `Meter.measure`."""


class Meter:
    """Measures settings, each once: what the journal has is not measured again.

    Args:
        model: with the vectors of the box.
        box: the knobs.
        rows: queries of all domains, with reference replies at the same levels.
        texts: rows outside the domains; the middle one of their levels is scored, to see what a setting costs there.
        judge: gives generated replies their level; without one nothing is generated.
        sampling: how replies are decoded.
        data: name of the data, for the journal.
        journal: a file that a killed run goes on from.
        clock: seconds.

    Attributes:
        box, rows, judge, sampling, data: as given.
        levels: of the reference replies, lowest first.
        scoring: what scoring reference replies and texts took.
        generating: what generating replies, and judging them, took.

    Raises:
        DataError: if rows differ in their levels, or the journal belongs to something else.
    """

    def __init__(
        self,
        model: KnobbedModel,
        box: Box,
        rows: Sequence[PreferenceRow],
        *,
        texts: Sequence[PreferenceRow] = (),
        judge: LevelJudge | None = None,
        sampling: Sampling | None = None,
        data: str,
        journal: Path | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.box = box
        self.rows = tuple(rows)
        self.levels = levels_of(rows)
        # Ids by content, as the journal's scope is without them: a constraint may be added later.
        self.texts = tuple(row.model_copy(update={"id": f"text-{rows_digest([row])}"}) for row in texts)
        self.judge, self.sampling, self.data = judge, sampling or Sampling(), data
        self._model = model
        self.scoring, self.generating, self._clock = Phase(), Phase(), clock
        self._journal = Journal(journal, scope_of(model, box.names, self.sampling, data, rows))

    def measure(
        self,
        points: Points,
        advance: Advance = lambda *_: None,
        *,
        shares: npt.NDArray[np.float64] | None = None,
        batch_size: int = 48,
    ) -> Measured:
        """Measure settings.

        Args:
            points: [points, axes].
            advance: called with a task's name, what was done and the total.
            shares: how much of each knob acts on each row, and then on each text, [rows + texts, axes], as a router
                has it; None: all of it.
            batch_size: replies generated at once.
        """
        settings = [self.box.knobs(point) for point in points]
        turn = turn_by(self.box.names, shares)
        general = None
        if self.texts:
            spoken, count = levels_of(self.texts), len(self.texts) * (len(settings) + 1)
            with self._timed("scoring"):
                general = score_levels(
                    self._model, self.texts, [spoken[len(spoken) // 2]], settings,
                    journal=self._journal, turn=lambda text, knobs: turn(len(self.rows) + text, knobs),
                    advance=lambda n: advance("scoring texts", n, count),
                )  # fmt: skip
        total = len(self.rows) * (len(settings) + 1)
        with self._timed("scoring"):
            scores = score_levels(
                self._model, self.rows, self.levels, settings,
                journal=self._journal, turn=turn, advance=lambda n: advance("scoring", n, total),
            )  # fmt: skip
        said = None
        if self.judge:
            count = len(self.rows) * len(settings)
            index = {level: i for i, level in enumerate(self.levels)}
            with self._timed("generating"):
                replies = generate_replies(
                    self._model, self.rows, settings, self.sampling,
                    journal=self._journal, turn=turn, batch_size=batch_size,
                    advance=lambda n: advance("generating", n, count),
                )  # fmt: skip
                said = np.array([[index[level] for level in self.judge.verdicts(column)] for column in replies])
        return Measured(np.asarray(points, dtype=np.float64), self.rows, scores, said, general)

    @contextmanager
    def _timed(self, name: Literal["scoring", "generating"]) -> Iterator[None]:
        started, added, reused = self._clock(), self._journal.added, self._journal.reused
        yield
        phase = Phase(
            seconds=self._clock() - started,
            made=self._journal.added - added,
            reused=self._journal.reused - reused,
        )
        setattr(self, name, getattr(self, name) + phase)
