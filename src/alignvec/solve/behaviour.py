"""From settings to rates: how likely the reference replies, and of which level the generated ones, are in a box.

Likelihoods come from a response surface. The level of a generated reply comes from them through a link: for each domain
a multinomial logistic regression from a query's three implicit rewards per token to the level that the judge found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.errors import DataError
from alignvec.solve.box import Box, Points
from alignvec.solve.measure import Measured
from alignvec.solve.surface import Array, Surface

CHUNK = 512
"""Points predicted at once."""
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)


class Behaviour:
    """Rates of every domain and level over a box.

    Args:
        box: the knobs.
        measured: what was measured; settings may repeat.

    Raises:
        DataError: if there are too few settings for a surface, or no generated replies for a link.
    """

    def __init__(self, box: Box, measured: Measured) -> None:
        self.box, self.measured = box, measured
        scores = measured.scores
        rewards = scores.implicit()
        self.levels, self.domains = scores.levels, measured.domains
        self.surface = Surface(box, measured.points, rewards.reshape(len(rewards), -1))
        self._base: Array = scores.base / scores.counts
        self._masks = {domain: measured.of(domain) for domain in self.domains}
        self._links = (
            {d: _link(rewards[:, mask], measured.said[:, mask]) for d, mask in self._masks.items()}
            if measured.said is not None
            else None
        )

    def rewards(self, points: Points) -> Array:
        """Implicit reward per token of every reference reply, [points, rows, levels]."""
        found: Array = self.surface.predict(points).reshape(len(points), *self._base.shape)
        return found

    def preference_rates(self, points: Points) -> Array:
        """Share of a domain's queries whose reply of a level is the likeliest per token, [points, domains, levels]."""
        return self._over(points, lambda rewards: _preferred(self._base + rewards, self._masks.values()))

    def level_rates(self, points: Points) -> Array:
        """Expected share of generated replies of each level, [points, domains, levels].

        Raises:
            DataError: if no replies were generated.
        """
        if self._links is None:
            raise DataError("no replies were generated, so nothing is known of their levels; measure with a judge")
        links = self._links

        def said(rewards: Array) -> Array:
            return np.stack([links[d].rates(rewards[:, mask]) for d, mask in self._masks.items()], axis=1)

        return self._over(points, said)

    def _over(self, points: Points, rates: Any) -> Array:
        parts = [rates(self.rewards(points[i : i + CHUNK])) for i in range(0, len(points), CHUNK)]
        return np.concatenate(parts)


@dataclass(frozen=True)
class _Link:
    """Levels of generated replies given rewards."""

    classifier: Any
    levels: int

    def rates(self, rewards: Array) -> Array:
        """[points, rows, levels] to mean probabilities, [points, levels]."""
        points, rows, _ = rewards.shape
        given = self.classifier.predict_proba(_bent(rewards.reshape(points * rows, -1)))
        found = np.zeros((points, self.levels))
        found[:, self.classifier.classes_] = given.reshape(points, rows, -1).mean(axis=1)
        return found


@dataclass(frozen=True)
class _Always:
    """The link of a domain whose replies all had one level."""

    level: int
    levels: int

    def rates(self, rewards: Array) -> Array:
        """[points, rows, levels] to rates, [points, levels]."""
        found = np.zeros((len(rewards), self.levels))
        found[:, self.level] = 1.0
        return found


def _link(rewards: Array, said: npt.NDArray[np.int64]) -> _Link | _Always:
    """Fit a link; its penalty is chosen by leaving settings out."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings, rows, levels = rewards.shape
    found = np.unique(said)
    if len(found) == 1:
        return _Always(int(found[0]), levels)
    groups = np.repeat(np.arange(settings), rows)
    folds = GroupKFold(min(5, settings)).split(groups, groups=groups)
    x, y = _bent(rewards.reshape(settings * rows, levels)), said.reshape(-1)
    scaler = StandardScaler().fit(x)
    fitted = LogisticRegressionCV(Cs=list(STRENGTHS), cv=list(folds), scoring="neg_log_loss", max_iter=5000)
    fitted.fit(scaler.transform(x), y)
    pipeline = make_pipeline(scaler, fitted)
    return _Link(pipeline, levels)


def _bent(rewards: Array) -> Array:
    """Rewards, their squares and products."""
    width = rewards.shape[1]
    products = [rewards[:, i] * rewards[:, j] for i in range(width) for j in range(i, width)]
    return np.column_stack([rewards, *products])


def _preferred(values: Array, masks: Any) -> Array:
    best = values.argmax(axis=2)
    shares = [[(best[:, mask] == level).mean(axis=1) for level in range(values.shape[2])] for mask in masks]
    return np.array(shares).transpose(2, 0, 1)


def together(parts: Sequence[Measured]) -> Measured:
    """Measurements of the same rows as one; a setting that was measured twice counts once."""
    first = parts[0]
    points = np.concatenate([part.points for part in parts])
    _, kept = np.unique(points, axis=0, return_index=True)
    kept = np.sort(kept)
    said = None if first.said is None else np.concatenate([part.said for part in parts if part.said is not None])[kept]
    sums = np.concatenate([part.scores.sums for part in parts])[kept]
    return replace(first, points=points[kept], scores=replace(first.scores, sums=sums), said=said)
