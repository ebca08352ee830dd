"""A knob without a model: it follows a known rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from alignvec.solve.calibration import fit, points_of, recommended
from alignvec.solve.knob_meter import Position
from alignvec.solve.knob_search import explore, usable_range
from alignvec.vectors.calibration import Calibration, Limits

LEVELS = ("avoidance", "generic", "expert")
QUERIES = 20
PERSONAS = tuple(f"persona {i // 2}" for i in range(QUERIES))
LIMITS = Limits()


@dataclass
class RuleKnob:
    """Queries go over to the next level at ±`turn`, one after the other; keeps the λ that it was asked for.

    Attributes:
        turn: |λ| at which the middle query changes its level.
        spread: how far the queries are apart.
        perplexity: by λ.
        broken: share of degenerate replies by λ.
    """

    turn: float = 0.6
    spread: float = 0.4
    perplexity: Callable[[float], float] = lambda _: 1.0
    broken: Callable[[float], float] = lambda _: 0.0
    asked: list[float] = field(default_factory=list)

    def measure(self, coefficients: Sequence[float]) -> list[Position]:
        self.asked += coefficients
        return [self.at(value) for value in coefficients]

    def at(self, value: float) -> Position:
        turned = value + np.linspace(-self.spread, self.spread, QUERIES)
        said = np.where(turned < -self.turn, 0, np.where(turned > self.turn, 2, 1))
        degenerate = np.arange(QUERIES) < QUERIES * self.broken(value)
        return Position(value, LEVELS, said, said, self.perplexity(value), degenerate, np.zeros(QUERIES, dtype=bool))


def calibrated(knob: RuleKnob, limits: Limits = LIMITS, *, points: int = 9) -> Calibration:
    """The calibration of a rule."""
    positions = explore(knob.measure, limits, points=points)
    low, high = usable_range(positions, limits)
    within = [p for p in positions if low <= p.coefficient <= high]
    curve = fit(within, PERSONAS)
    return Calibration(
        data="medical.jsonl validation",
        queries=QUERIES,
        text="general.jsonl",
        language="en",
        generation={"queries": QUERIES},
        judge="judge: .99",
        levels=LEVELS,
        limits=limits,
        usable=(low, high),
        points=points_of(positions, limits),
        curve=curve,
        settings=recommended(within, curve, LEVELS),
    )
