"""A meter without a model: rewards and levels that follow a known rule."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.preference import LevelScores
from alignvec.solve.box import Axis, Box, Points
from alignvec.solve.measure import Measured

LEVELS = ("avoidance", "generic", "expert")
DOMAINS = ("medical", "legal")
BOX = Box((Axis("medical", -1.0, 1.0, True), Axis("legal", -1.0, 1.0, True)))
ROWS = tuple(
    PreferenceRow(
        id=f"{domain}-{i}", domain=domain, split="validation", topic="t", persona=f"{domain} persona {i // 2}",
        query="q", responses=dict.fromkeys(LEVELS, "r"),
    )
    for domain in DOMAINS
    for i in range(20)
)  # fmt: skip


@dataclass
class RuleMeter:
    """A knob turns its domain, and by `spill` of it the other; keeps the settings that it was asked for.

    With `cost`, the perplexity of a text outside grows by the factor exp(cost · Σ|λ|).
    """

    spill: float = 0.0
    cost: float | None = None
    box: Box = BOX
    rows: tuple[PreferenceRow, ...] = ROWS
    asked: list[tuple[float, ...]] = field(default_factory=list)

    def measure(self, points: Points, advance: Any = None, *, shares: Any = None) -> Measured:
        """Every query has a strength of its own; the likeliest reply is also what is said."""
        if shares is None:
            self.asked += [tuple(point) for point in points.tolist()]
        own = np.array([DOMAINS.index(row.domain) for row in self.rows])
        strength = np.linspace(0.8, 1.2, len(self.rows))
        acting = np.ones((len(self.rows), 2)) if shares is None else shares
        rows = np.arange(len(self.rows))
        turned = points[:, own] * acting[rows, own] + self.spill * points[:, 1 - own] * acting[rows, 1 - own]
        turned = turned * strength
        rewards = np.stack([-turned, np.zeros_like(turned), turned], axis=2)
        base = np.tile([-2.4, -2.0, -2.4], (len(self.rows), 1))
        counts = np.full((len(self.rows), 3), 10.0)
        sums = (base + rewards) * counts
        personas = tuple(row.persona for row in self.rows)
        scores = LevelScores(LEVELS, personas, sums, base * counts, counts)
        general = None
        if self.cost is not None:
            lost = 10.0 * self.cost * np.abs(points).sum(axis=1)
            general = LevelScores(
                ("generic",), ("p",), -20.0 - lost[:, None, None], np.array([[-20.0]]), np.array([[10.0]])
            )
        return Measured(points, self.rows, scores, np.asarray((base + rewards).argmax(axis=2)), general)
