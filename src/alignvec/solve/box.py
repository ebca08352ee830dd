"""The box of settings in which a solver looks, and the points of it that are measured first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from itertools import product

import numpy as np
import numpy.typing as npt

from alignvec.errors import ConfigError
from alignvec.steer.scale import scale_of
from alignvec.vectors.card import Card

Points = npt.NDArray[np.float64]
"""Settings, [points, axes], λ."""
UNMEASURED = (-1.0, 1.0)
DIGITS = 3
"""Decimal places of λ: settings are written, journalled and compared with these."""


@dataclass(frozen=True)
class Axis:
    """One knob of the box.

    Attributes:
        name: of the vector.
        low: lowest λ, at most 0.
        high: highest λ, at least 0.
        hinged: the vector is another one below 0, so behaviour may bend there.
    """

    name: str
    low: float
    high: float
    hinged: bool


@dataclass(frozen=True)
class Box:
    """Ranges of several knobs."""

    axes: tuple[Axis, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the knobs, in the order of the columns of points."""
        return tuple(axis.name for axis in self.axes)

    def knobs(self, point: Sequence[float] | Points) -> dict[str, float]:
        """A point as a setting, without the knobs that are at 0."""
        values = (round(float(value), DIGITS) for value in point)
        return {name: value for name, value in zip(self.names, values, strict=True) if value}

    def point(self, knobs: Mapping[str, float]) -> list[float]:
        """A setting as a point.

        Raises:
            ConfigError: if a knob is none of the box's.
        """
        if unknown := sorted(knobs.keys() - set(self.names)):
            raise ConfigError(f"no knob {unknown[0]!r} here (have: {', '.join(self.names)}); name one of them")
        return [knobs.get(name, 0.0) for name in self.names]

    def grid(self, steps: int) -> Points:
        """All settings with `steps` values of every knob, evenly spaced over its range."""
        return np.array(list(product(*(np.linspace(a.low, a.high, steps) for a in self.axes)))).round(DIGITS)

    def random(self, count: int, seed: int) -> Points:
        """Settings drawn evenly from the box."""
        low, high = np.array([[a.low, a.high] for a in self.axes]).T
        drawn = np.random.default_rng(seed).uniform(low, high, size=(count, len(self.axes)))
        return drawn.round(DIGITS)

    def design(self, count: int, seed: int) -> Points:
        """Settings to measure first: ends and middles of every axis, corners of up to three, then a Latin hypercube.

        The base is not among them: it is known from every measurement.

        Args:
            count: number of settings; fewer than there are axis points and corners cuts the last ones off.
            seed: of the hypercube.
        """
        from scipy.stats import qmc

        rows: list[tuple[float, ...]] = []
        for share in (1.0, 0.5):
            for i, axis in enumerate(self.axes):
                for end in (axis.low, axis.high):
                    rows.append(tuple(share * end if j == i else 0.0 for j in range(len(self.axes))))
        if 1 < len(self.axes) <= 3:  # of six knobs they would be 64
            rows += list(product(*((axis.low, axis.high) for axis in self.axes)))
        rows = [row for row in dict.fromkeys(rows) if any(row)][:count]
        if left := count - len(rows):
            low, high = [axis.low for axis in self.axes], [axis.high for axis in self.axes]
            drawn = qmc.scale(qmc.LatinHypercube(len(self.axes), rng=seed).random(left), low, high)
            rows += [tuple(row) for row in drawn.tolist()]
        return np.array(rows).round(DIGITS)


def box_of(cards: Mapping[str, Card]) -> Box:
    """The box of some vectors: the range in which each is usable, else that its card was measured on, or -1 to 1.

    Raises:
        ConfigError: if a card was measured at 0 alone, or found to be usable there alone.
    """
    axes = []
    for name, card in cards.items():
        low, high = map(_inwards, scale_of(card).usable or UNMEASURED)
        if low == high and card.calibration:
            raise ConfigError(
                f"the calibration of {name} found nothing usable but λ = 0, so it has no range; calibrate it with "
                "wider limits (--perplexity, --degenerate, --off-language) and --card"
            )
        if low == high:
            raise ConfigError(f"{name} was measured at λ = 0 alone, so it has no range; sweep it with --card")
        axes.append(Axis(name, low, high, card.form == "hinged"))
    return Box(tuple(axes))


def _inwards(end: float) -> float:
    """An end of a range with `DIGITS` decimal places that is still inside: settings beyond would be cut."""
    return float(Decimal(str(end)).quantize(Decimal(10) ** -DIGITS, ROUND_DOWN)) + 0.0  # −0 becomes 0
