"""From likelihoods to what is said: level rates of generated replies from a domain's mean implicit rewards.

A query's own rewards say little about its own reply beyond what its domain's mean says (on three vectors of the demo
model, left-out settings: log loss .62 by query, .51 by mean), so one point a setting and domain goes into the fit.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.solve.box import Box, Points
from alignvec.solve.measure import Measured
from alignvec.solve.surface import Array, Surface

DEGREES = (1, 2, 3)
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 8


class Links:
    """Chances of levels over a box, a multinomial logistic regression a domain.

    Its features are polynomials of the mean rewards of every other level over the middle one; degree and penalty are
    those with the least log loss when settings are left out.

    Args:
        box: the knobs.
        measured: settings with generated replies, none of them routed.
    """

    def __init__(self, box: Box, measured: Measured) -> None:
        rewards, masks = measured.scores.implicit(), [measured.of(domain) for domain in measured.domains]
        means = np.stack([rewards[:, mask].mean(axis=1) for mask in masks], axis=1)
        self._levels = len(measured.scores.levels)
        self._surface = Surface(box, measured.points, means.reshape(len(means), -1))
        assert measured.said is not None
        counts = [_counts(measured.said[:, mask], self._levels) for mask in masks]
        self._fits = [_fit(_over_middle(means[:, i]), counts[i]) for i in range(len(masks))]

    def chances(self, points: Points, domain: int) -> Array:
        """Probability of each level of a reply in a domain, [points, levels].

        Args:
            points: settings as they act, [points, axes].
            domain: its place among the domains.
        """
        width = self._levels
        texts = np.arange(domain * width, (domain + 1) * width)
        return self._fits[domain].chances(_over_middle(self._surface.predict(points, texts)))


@dataclass(frozen=True)
class _Fit:
    """A fitted regression; without one, every reply had the same level."""

    pipeline: Any
    found: npt.NDArray[np.int64]
    levels: int

    def chances(self, rewards: Array) -> Array:
        """[points, features] to [points, levels]."""
        result = np.zeros((len(rewards), self.levels))
        result[:, self.found] = 1.0 if self.pipeline is None else self.pipeline.predict_proba(rewards)
        return result


def _fit(rewards: Array, counts: npt.NDArray[np.int64]) -> _Fit:
    """Fit one domain.

    Args:
        rewards: [settings, features].
        counts: replies of each level, [settings, levels].
    """
    settings, levels = counts.shape
    found = np.flatnonzero(counts.sum(axis=0))
    if len(found) == 1:
        return _Fit(None, found, levels)
    folds = np.arange(settings) % min(FOLDS, settings)
    losses = {
        chosen: sum(_loss(*chosen, rewards, counts, folds != fold) for fold in np.unique(folds))
        for chosen in product(DEGREES, STRENGTHS)
    }
    best = min(losses, key=lambda chosen: losses[chosen])
    return _Fit(_regression(*best, rewards, counts), found, levels)


def _loss(degree: int, strength: float, rewards: Array, counts: npt.NDArray[np.int64], seen: Any) -> float:
    """Negative log-likelihood of what was not seen, nats; a level that was never seen has one chance in a thousand."""
    found = np.flatnonzero(counts[seen].sum(axis=0))
    pipeline = _regression(degree, strength, rewards[seen], counts[seen]) if len(found) > 1 else None
    chances = _Fit(pipeline, found, counts.shape[1]).chances(rewards[~seen])
    return float(-(counts[~seen] * np.log(np.maximum(chances, 1e-3))).sum())


def _regression(degree: int, strength: float, rewards: Array, counts: npt.NDArray[np.int64]) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    settings, levels = counts.shape
    made = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(degree, include_bias=False),
        StandardScaler(),
        LogisticRegression(C=strength, max_iter=3000),
    )
    rows, said = np.repeat(rewards, levels, axis=0), np.tile(np.arange(levels), settings)
    weights = counts.reshape(-1)
    kept = weights > 0
    return made.fit(rows[kept], said[kept], logisticregression__sample_weight=weights[kept])


def _counts(said: npt.NDArray[np.int64], levels: int) -> npt.NDArray[np.int64]:
    """Replies of each level, [settings, levels], of levels [settings, rows]."""
    return np.stack([(said == level).sum(axis=1) for level in range(levels)], axis=1)


def _over_middle(rewards: Array) -> Array:
    """Rewards of every other level over the middle one's, [points, levels - 1]."""
    middle = rewards.shape[1] // 2
    return np.delete(rewards - rewards[:, [middle]], middle, axis=1)
