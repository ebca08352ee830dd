"""Rates that can only rise: isotonic regression with bootstrap bands."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from alignvec.evaluate.statistics import RESAMPLES, highest_unseen
from alignvec.vectors.strict import Interval

Array = npt.NDArray[np.float64]


def rising_curve(hits: npt.NDArray[np.bool_], personas: Sequence[str], *, seed: int = 0) -> list[Interval]:
    """The rising curve nearest to some rates (least squares), with 95 % bands over resampled personas.

    Each resampling draws whole personas, the same for all points, and is fitted anew. Where the fit is 0 or 1,
    resampling hardly varies, so a band is at least the exact binomial one with a trial a persona (see
    `bootstrap_rate`). Bands rise too. Of one persona alone they are unknown.

    Args:
        hits: [points, queries], whether a query counts, the points in the order in which the rate rises.
        personas: who asked, [queries].
        seed: of the resampling.
    """
    names, owner = np.unique(list(personas), return_inverse=True)
    totals = np.stack([np.bincount(owner, weights=point, minlength=len(names)) for point in hits])
    sizes = np.bincount(owner, minlength=len(names))
    fitted = _rising(hits.mean(axis=1))
    if len(names) < 2:
        return [Interval(value=float(value), low=None, high=None) for value in fitted]
    draws = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    drawn = (totals[:, draws].sum(axis=2) / sizes[draws].sum(axis=1)).T
    for i in np.flatnonzero((np.diff(drawn, axis=1) < 0).any(axis=1)):  # the others rise as they are
        drawn[i] = _rising(drawn[i])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    slack = highest_unseen(len(names))
    low, high = np.minimum(low, fitted), np.maximum(high, fitted)
    low = np.where(np.isclose(fitted, 1), np.minimum(low, 1 - slack), low)
    high = np.where(np.isclose(fitted, 0), np.maximum(high, slack), high)
    low, high = np.minimum.accumulate(low[::-1])[::-1], np.maximum.accumulate(high)
    return [Interval(value=float(v), low=float(a), high=float(b)) for v, a, b in zip(fitted, low, high, strict=True)]


def _rising(rates: Array) -> Array:
    from sklearn.isotonic import isotonic_regression

    found: Array = isotonic_regression(rates, y_min=0.0, y_max=1.0)
    return found
