"""The response surface: every text's log-likelihood as a low-order polynomial in the knobs.

Rates are steps in λ, log-likelihoods of fixed texts are smooth, so the latter are fitted, by ridge regression on a few
dozen measured settings, and rates are read off anywhere in the box. A hinged knob has terms of its own on each side
of 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignvec.errors import DataError
from alignvec.solve.box import Box, Points

Array = npt.NDArray[np.float64]
RIDGES = tuple(10.0**e for e in range(-5, 2))


@dataclass(frozen=True)
class Fit:
    """How well a surface fits, from the settings it was made of.

    Attributes:
        degree: highest power of one knob.
        ridge: strength of the penalty, chosen by leaving settings out.
        settings: number of settings.
        left_out_error: root mean square error of a left-out setting, nats.
        spread: root mean square of what is fitted, nats.
    """

    degree: int
    ridge: float
    settings: int
    left_out_error: float
    spread: float


class Surface:
    """Values of many texts over a box, each 0 at the base.

    Args:
        box: the knobs.
        points: measured settings, [points, axes].
        changes: change of each text against the base, [points, texts].
        degrees: highest powers of one knob to choose from.

    Raises:
        DataError: if there are fewer than three settings, or a value is not finite.
    """

    def __init__(self, box: Box, points: Points, changes: Array, degrees: Sequence[int] = (2, 3)) -> None:
        if len(points) < 3 or len(points) != len(changes):
            raise DataError(f"{len(points)} settings and {len(changes)} measurements make no surface; measure more")
        if not np.isfinite(changes).all():
            raise DataError("a log-likelihood is not finite, so no surface can be fitted; look at the vectors")
        self.box = box
        tried = [(_left_out(terms(box, points, d), changes, ridge), d, ridge) for d in degrees for ridge in RIDGES]
        error, degree, ridge = min(tried)
        self.fit = Fit(degree, ridge, len(points), error, float(np.sqrt(np.mean(changes**2))))
        self._weights: Array = _ridge(terms(box, points, degree), ridge) @ changes

    @property
    def texts(self) -> int:
        """Their number."""
        return int(self._weights.shape[1])

    def predict(self, points: Points, texts: npt.NDArray[np.int64] | slice = slice(None)) -> Array:
        """Change of every text, or of some, against the base, [points, texts]."""
        found: Array = terms(self.box, points, self.fit.degree) @ self._weights[:, texts]
        return found


def terms(box: Box, points: Points, degree: int) -> Array:
    """Powers of each knob up to `degree`, and products of two knobs, [points, terms]; all are 0 at the base."""
    sides: list[list[Array]] = []
    for i, axis in enumerate(box.axes):
        column = points[:, i]
        sides.append([np.maximum(column, 0.0), np.maximum(-column, 0.0)] if axis.hinged else [column])
    powers = [side**power for axis in sides for side in axis for power in range(1, degree + 1)]
    pairs = [one * other for i, axis in enumerate(sides) for later in sides[i + 1 :] for one in axis for other in later]
    return np.stack([*powers, *pairs], axis=1)


def _ridge(x: Array, ridge: float) -> Array:
    """The matrix that takes measured values to weights."""
    return np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T), dtype=np.float64)


def _left_out(x: Array, y: Array, ridge: float) -> float:
    """Root mean square error when each setting is left out (exact for ridge: residual over 1 − leverage)."""
    hat = x @ _ridge(x, ridge)
    left = (y - hat @ y) / np.maximum(1.0 - np.diag(hat), 1e-9)[:, None]
    return float(np.sqrt(np.mean(left**2)))
