"""From settings to rates: how likely the reference replies, and of which level the generated ones, are in a box.

Likelihoods come from a response surface, levels of generated replies from a domain's mean likelihoods through a link.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alignvec.errors import DataError
from alignvec.solve.box import Box, Points
from alignvec.solve.link import Links
from alignvec.solve.measure import Measured
from alignvec.solve.surface import Array, Surface

CHUNK = 512
"""Points predicted at once."""


class Behaviour:
    """Rates of every domain and level over a box.

    Args:
        box: the knobs.
        measured: what was measured; settings may repeat.
        shares: how much of each knob acts on each row, and then on each text, [rows + texts, axes], if a router turns
            them; the rates are then of the routed model, though what was measured was not routed.

    Raises:
        DataError: if there are too few settings for a surface, or no generated replies for a link.
    """

    def __init__(self, box: Box, measured: Measured, shares: Array | None = None) -> None:
        self.box, self.measured = box, measured
        scores = measured.scores
        rewards = scores.implicit()
        self.levels, self.domains = scores.levels, measured.domains
        self.surface = Surface(box, measured.points, rewards.reshape(len(rewards), -1))
        self._base: Array = scores.base / scores.counts
        self._shares = np.ones((len(self._base), len(box.axes))) if shares is None else shares[: len(self._base)]
        self._general = None
        if measured.general is not None:
            found = measured.general.implicit()[:, :, 0]
            self._general = Surface(box, measured.points, found)
            self._text_shares = (
                np.ones((found.shape[1], len(box.axes))) if shares is None else shares[len(self._base) :]
            )
        self._masks = {domain: measured.of(domain) for domain in self.domains}
        self.links = Links(box, measured) if measured.said is not None else None

    def rewards(self, points: Points) -> Array:
        """Implicit reward per token of every reference reply, [points, rows, levels]."""
        return _turned(self.surface, points, self._shares).reshape(len(points), *self._base.shape)

    def perplexity(self, points: Points) -> Array:
        """Perplexity of the texts outside the domains, all together, as a multiple of the base's, [points].

        Raises:
            DataError: if no such texts were measured.
        """
        if self._general is None or self.measured.general is None:
            raise DataError("no texts outside the domains were measured, so nothing is known of their perplexity")
        counts = self.measured.general.counts[:, 0]
        found: Array = np.exp(-_turned(self._general, points, self._text_shares) @ counts / counts.sum())
        return found

    def preference_rates(self, points: Points) -> Array:
        """Share of a domain's queries whose reply of a level is the likeliest per token, [points, domains, levels]."""
        parts = (self.rewards(points[i : i + CHUNK]) for i in range(0, len(points), CHUNK))
        return np.concatenate([_preferred(self._base + part, self._masks.values()) for part in parts])

    def level_rates(self, points: Points) -> Array:
        """Expected share of generated replies of each level, [points, domains, levels].

        Raises:
            DataError: if no replies were generated.
        """
        if self.links is None:
            raise DataError("no replies were generated, so nothing is known of their levels; measure with a judge")
        found = np.zeros((len(points), len(self.domains), len(self.levels)))
        for i, mask in enumerate(self._masks.values()):
            kinds, rows = np.unique(self._shares[mask], axis=0, return_counts=True)
            for share, count in zip(kinds, rows, strict=True):
                found[:, i] += count / mask.sum() * self.links.chances(points * share, i)
        return found


def _turned(surface: Surface, points: Points, shares: Array) -> Array:
    """What a surface predicts where of every row's setting only a share acts, [points, texts].

    Args:
        surface: of rows × as many texts each.
        points: [points, axes].
        shares: [rows, axes].
    """
    kinds, kind = np.unique(shares, axis=0, return_inverse=True)
    texts = np.arange(surface.texts).reshape(len(shares), -1)
    found = np.empty((len(points), surface.texts))
    for i, share in enumerate(kinds):
        alike = texts[kind.ravel() == i].ravel()
        found[:, alike] = surface.predict(points * share, alike)
    return found


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
    general = first.general
    if general is not None:
        texts = np.concatenate([part.general.sums for part in parts if part.general is not None])[kept]
        general = replace(general, sums=texts)
    return replace(first, points=points[kept], scores=replace(first.scores, sums=sums), said=said, general=general)
