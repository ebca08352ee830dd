"""What answers for the model when methods are compared: a stand-in fitted to measurements, or those measurements alone.

The model takes half a minute or more for a setting, and a comparison needs tens of thousands of them.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alignvec.errors import DataError
from alignvec.solve.behaviour import CHUNK, Behaviour
from alignvec.solve.box import DIGITS, Box, Points
from alignvec.solve.measure import Advance, Measured, Source
from alignvec.solve.replay import part
from alignvec.solve.solver import Kind, measured_rates
from alignvec.solve.surface import Array


class Oracle(Protocol):
    """Answers for the model."""

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Domains and levels."""

    def source(self, seed: int) -> Source:
        """Where one run of a method measures."""

    def rates(self, points: Points, by: Kind) -> Array:
        """What a method's choice is reported by, [points, domains, levels]."""


class StandIn(Behaviour):
    """A surface and its links, from which measurements are drawn; its rates without noise are the truth.

    A method sees a level for each query, drawn with the link's probabilities, and likelihoods that are off the surface
    by as much as a left-out setting is: the residuals of one measured setting, all together, scaled to that error.
    """

    def __init__(self, box: Box, measured: Measured) -> None:
        super().__init__(box, measured)
        residuals = measured.scores.implicit() - self.rewards(measured.points)
        size = float(np.sqrt(np.mean(residuals**2)))
        self._misfits: Array = residuals * (self.surface.fit.left_out_error / size if size else 0.0)

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Domains and levels."""
        return self.domains, self.levels

    def source(self, seed: int) -> "Draws":
        """Measurements with the noise of a seed."""
        return Draws(self, seed)

    def rates(self, points: Points, by: Kind) -> Array:
        """Rates without noise, [points, domains, levels]."""
        return self.level_rates(points) if by == "level" else self.preference_rates(points)

    def draw(self, points: Points, seed: int) -> Measured:
        """Measure settings, without texts outside the domains; a seed always measures a setting alike.

        Args:
            points: [points, axes].
            seed: of the noise.
        """
        found = [self._draw(points[i : i + CHUNK], seed) for i in range(0, len(points), CHUNK)]
        scores = self.measured.scores
        sums = scores.base + np.concatenate([rewards for rewards, _ in found]) * scores.counts
        said = None if self.links is None else np.concatenate([said for _, said in found])
        return replace(self.measured, points=points, scores=replace(scores, sums=sums), said=said, general=None)

    def _draw(self, points: Points, seed: int) -> tuple[Array, npt.NDArray[np.int64]]:
        """Rewards [points, rows, levels] and levels [points, rows]."""
        rewards = self.rewards(points)
        rows = rewards.shape[1]
        shares = np.zeros_like(rewards)
        for i, mask in enumerate(self._masks.values()):
            if self.links is not None:
                shares[:, mask] = self.links.chances(points, i)[:, None]
        streams = [np.random.default_rng([seed, *_whole(point)]) for point in points]
        drawn = np.array([stream.random(rows) for stream in streams])
        said = (drawn[:, :, None] > shares.cumsum(axis=2)[:, :, :-1]).sum(axis=2)
        misfits = self._misfits[[stream.integers(len(self._misfits)) for stream in streams]]
        turned = np.array([float(any(point)) for point in points])  # at the base nothing changes
        return rewards + misfits * turned[:, None, None], said


@dataclass(frozen=True)
class Draws:
    """A stand-in with the noise of one seed.

    Attributes:
        stand_in: the surface.
        seed: of the noise.
    """

    stand_in: StandIn
    seed: int

    @property
    def box(self) -> Box:
        """The knobs."""
        return self.stand_in.box

    def measure(self, points: Points, advance: Advance = lambda *_: None, *, shares: Array | None = None) -> Measured:
        """Draw a measurement of every point, which takes no time worth a progress bar."""
        return self.stand_in.draw(points, self.seed)


@dataclass(frozen=True)
class Pool:
    """Settings that were measured on the model, as the only ones there are.

    Attributes:
        box: the knobs.
        measured: the settings.
    """

    box: Box
    measured: Measured

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Domains and levels."""
        return self.measured.domains, self.measured.scores.levels

    def source(self, seed: int) -> "Taking":
        """All of the pool; a real measurement has no seed."""
        return Taking(self.box, self.measured)

    def rates(self, points: Points, by: Kind) -> Array:
        """Measured rates of settings of the pool, [points, domains, levels]."""
        return measured_rates(part(self.measured, self._same(points).argmax(axis=1)), by)

    def has(self, points: Points) -> bool:
        """Whether all of these settings are in the pool."""
        return bool(self._same(points).any(axis=1).all())

    def _same(self, points: Points) -> npt.NDArray[np.bool_]:
        """[points, settings of the pool]."""
        return np.asarray((points[:, None] == self.measured.points).all(axis=2))


class Taking:
    """A pool from which settings are taken.

    Args:
        box: the knobs.
        measured: the pool.
    """

    def __init__(self, box: Box, measured: Measured) -> None:
        self._box, self._measured = box, measured
        self._left = np.ones(len(measured.points), dtype=np.bool_)

    @property
    def box(self) -> Box:
        """The knobs."""
        return self._box

    def measure(self, points: Points, advance: Advance = lambda *_: None, *, shares: Array | None = None) -> Measured:
        """For each point the nearest one that was not taken yet, distances being shares of the knobs' ranges.

        Raises:
            DataError: if there are not so many left.
        """
        if len(points) > self._left.sum():
            raise DataError(f"{self._left.sum()} settings are left, not {len(points)}; use a smaller --budget")
        width = np.array([axis.high - axis.low for axis in self._box.axes])
        places = np.zeros(len(points), dtype=np.int64)
        for i, point in enumerate(points):
            distance = np.linalg.norm((self._measured.points - point) / width, axis=1)
            places[i] = np.where(self._left, distance, np.inf).argmin()
            self._left[places[i]] = False
        return part(self._measured, places)


def _whole(point: Points) -> list[int]:
    """A setting in whole numbers that a random generator takes for its seed."""
    return [int(value) % 2**32 for value in np.rint(point * 10**DIGITS)]
