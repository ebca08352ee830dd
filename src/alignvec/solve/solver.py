"""From goals to coefficients: measure a few dozen settings, fit, search everywhere, verify, refine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.errors import ConfigError
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.solve.behaviour import Behaviour, together
from alignvec.solve.box import Points
from alignvec.solve.goals import Goal
from alignvec.solve.measure import Advance, Measured, Meter
from alignvec.solve.search import Rates, blocked, objective, reached, search
from alignvec.solve.surface import Array
from alignvec.vectors.card import Interval

THRESHOLDS = (0.5, 0.6, 0.7)
"""Rates at which a goal's verdict is told; the one that counts is `goals.REACHED`."""
BETTER = 0.02
"""By how much a predicted setting must beat the best measured one to be worth measuring."""
Kind = Literal["level", "preference"]
"""What rates are of: levels of generated replies, or the likeliest reference reply."""


class SolvedGoal(Record):
    """A goal, its best setting, and what was measured there.

    Attributes:
        goal: domain to wanted level.
        knobs: the setting.
        predicted: domain to level to rate, by the surface.
        measured: the same on the model, with 95 % intervals over personas.
        reached: threshold to whether every wanted level has the highest rate and at least that one.
        blocked_by: of a goal that is not reached, what stands in the way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    goal: dict[str, str]
    knobs: dict[str, float]
    predicted: dict[str, dict[str, float]]
    measured: dict[str, dict[str, Interval]]
    reached: dict[str, bool]
    blocked_by: str | None = None


@dataclass
class Solver:
    """Finds settings for goals on one set of evaluations.

    Attributes:
        meter: measures settings.
        by: `level` (levels of generated replies, by the judge) or `preference` (likeliest reference reply).
        measured: everything measured so far.
    """

    meter: Meter
    by: Kind = "level"
    measured: Measured | None = None

    def explore(self, settings: int, seed: int, advance: Advance = lambda *_: None) -> None:
        """Measure the base and a design that fills the box."""
        box = self.meter.box
        points = np.concatenate([np.zeros((1, len(box.axes))), box.design(settings, seed)])
        self._add(points, advance)

    def solve(
        self,
        goals: Sequence[Goal],
        *,
        rounds: int = 3,
        budget: int = 1_000,
        advance: Callable[[str, int, int], None] = lambda *_: None,
    ) -> list[SolvedGoal]:
        """The best setting for every goal; each round measures where the surface promises better than what is known.

        Args:
            goals: what is wanted.
            rounds: most rounds of measuring.
            budget: most settings measured in all, those of `explore` included.
            advance: called with a task's name, what was done and the total.
        """
        for _ in range(rounds):
            behaviour, rates = self._fitted()
            known = self._known()
            wanted: dict[tuple[float, ...], float] = {}
            for goal in goals:
                found = search(behaviour, goal, rates)
                best = float(objective(self._rates(known), goal, behaviour.domains, behaviour.levels).max())
                new = not (np.abs(known.points - np.array(found.point)).max(axis=1) < 1e-9).any()
                if new and found.objective > best + BETTER:
                    wanted[found.point] = max(wanted.get(found.point, 0.0), found.objective - best)
            points = sorted(wanted, key=lambda point: -wanted[point])[: max(0, budget - len(known.points))]
            if not points:
                break
            self._add(np.array(points), advance)
        behaviour, rates = self._fitted()
        return [self._solved(goal, behaviour, rates) for goal in goals]

    def _solved(self, goal: Goal, behaviour: Behaviour, rates: Rates) -> SolvedGoal:
        known, domains, levels = self._known(), behaviour.domains, behaviour.levels
        seen = self._rates(known)
        # the mean of both: a rate of twenty queries is noisy, and the surface has seen the neighbours
        place = int(np.argmax(objective((seen + rates(known.points)) / 2, goal, domains, levels)))
        predicted = rates(known.points[place : place + 1])[0]
        why = None
        if not reached(seen[place], goal, domains, levels):
            found = search(behaviour, goal, rates)
            why = "it was predicted to be reached, but no measurement bore it out"
            if not reached(found.rates, goal, domains, levels):
                why = blocked(behaviour, goal, rates)
        return SolvedGoal(
            goal=dict(goal.wanted),
            knobs=self.meter.box.knobs(known.points[place]),
            predicted={
                d: {level: float(predicted[i, j]) for j, level in enumerate(levels)} for i, d in enumerate(domains)
            },
            measured=intervals(known, place, self.by),
            reached={f"{t:g}": reached(seen[place], goal, domains, levels, t) for t in THRESHOLDS},
            blocked_by=why,
        )

    def _fitted(self) -> tuple[Behaviour, Rates]:
        behaviour = Behaviour(self.meter.box, self._known())
        return behaviour, behaviour.level_rates if self.by == "level" else behaviour.preference_rates

    def _rates(self, measured: Measured) -> Array:
        return measured_rates(measured, self.by)

    def _known(self) -> Measured:
        if self.measured is None:
            raise ConfigError("nothing was measured yet; explore first")
        return self.measured

    def _add(self, points: Points, advance: Advance) -> None:
        new = self.meter.measure(points, advance)
        self.measured = new if self.measured is None else together([self.measured, new])


def measured_rates(measured: Measured, by: Kind) -> Array:
    """Rates of every measured setting, [points, domains, levels]."""
    best = _verdicts(measured, by)
    shares = [
        [(best[:, measured.of(domain)] == level).mean(axis=1) for level in range(len(measured.scores.levels))]
        for domain in measured.domains
    ]
    return np.array(shares).transpose(2, 0, 1)


def intervals(measured: Measured, place: int, by: Kind) -> dict[str, dict[str, Interval]]:
    """Rates of one measured setting with 95 % intervals over personas, by domain and level."""
    best = _verdicts(measured, by)[place]
    found: dict[str, dict[str, Interval]] = {}
    for domain in measured.domains:
        rows = np.flatnonzero(measured.of(domain))
        personas = [measured.rows[i].persona for i in rows]
        found[domain] = {
            level: bootstrap_rate([float(best[i] == j) for i in rows], personas)
            for j, level in enumerate(measured.scores.levels)
        }
    return found


def _verdicts(measured: Measured, by: Kind) -> npt.NDArray[np.int64]:
    """Index of the level that each query has at each setting, [points, rows]."""
    if by == "preference":
        return np.asarray((measured.scores.sums / measured.scores.counts).argmax(axis=2), dtype=np.int64)
    if measured.said is None:
        raise ConfigError("no replies were generated, so there are no level rates; measure with a judge")
    return measured.said
