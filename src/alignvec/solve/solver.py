"""From goals to coefficients: measure a few dozen settings, fit, search everywhere, verify, refine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.solve.behaviour import Behaviour, together
from alignvec.solve.box import Points
from alignvec.solve.goals import Goal
from alignvec.solve.measure import Advance, Measured, Source
from alignvec.solve.search import Rates, blocked, misses, objective, reached, remembered, search
from alignvec.solve.seconds import Clock
from alignvec.solve.surface import Array
from alignvec.vectors.strict import Interval

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
        constraints: bounds that the setting must keep, in words.
        perplexity: of texts outside the domains, as a multiple of the base's; None if there are none.
        kept: whether the constraints are kept where it was measured.
        reached: threshold to whether they are, and every wanted level has the highest rate and at least that one.
        blocked_by: of a goal that is not reached, what stands in the way.
        spillover: knob to domain to the mean absolute change of its preference rates that this knob alone makes, at
            its λ of the setting, by the surface; a knob's own domain included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    goal: dict[str, str]
    constraints: list[str]
    knobs: dict[str, float]
    predicted: dict[str, dict[str, float]]
    measured: dict[str, dict[str, Interval]]
    perplexity: float | None
    kept: bool
    reached: dict[str, bool]
    blocked_by: str | None = None
    spillover: dict[str, dict[str, float]]


@dataclass
class Solver:
    """Finds settings for goals on one set of evaluations.

    Attributes:
        meter: measures settings.
        by: `level` (levels of generated replies, by the judge) or `preference` (likeliest reference reply).
        shares: how much of each knob acts on each row, [rows, axes], to solve for a routed model; None: all of it.
        measured: what the surface is fitted to, never routed: every row then tells about the whole box.
        tried: where goals are judged: the same, or what was measured routed.
        clock: seconds.
        fitting: seconds that surfaces were fitted for.
        searching: seconds that settings of goals, and what blocks goals, were searched for.
    """

    meter: Source
    by: Kind = "level"
    shares: Array | None = None
    measured: Measured | None = None
    tried: Measured | None = None
    clock: Clock = time.perf_counter
    fitting: float = field(default=0.0, init=False)
    searching: float = field(default=0.0, init=False)

    @property
    def evaluations(self) -> int:
        """Number of settings that were measured, the base included."""
        parts = {id(part): len(part.points) for part in (self.measured, self.tried) if part is not None}
        return sum(parts.values()) - (len(parts) - 1 if parts else 0)  # the base is in both

    def explore(self, settings: int, seed: int, advance: Advance = lambda *_: None) -> None:
        """Measure the base and a design that fills the box."""
        box = self.meter.box
        base = np.zeros((1, len(box.axes)))
        self.measured = self.meter.measure(np.concatenate([base, box.design(settings, seed)]), advance)
        self.tried = self.measured if self.shares is None else self.meter.measure(base, advance, shares=self.shares)

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
            behaviour, rates = self._fit()
            started = self.clock()
            known = self._known()
            wanted: dict[tuple[float, ...], float] = {}
            for goal in goals:
                found = search(behaviour, goal, rates)
                best = float(self._objective(known, self._rates(known), goal).max())
                new = not (np.abs(known.points - np.array(found.point)).max(axis=1) < 1e-9).any()
                if new and found.objective > best + BETTER:
                    wanted[found.point] = max(wanted.get(found.point, 0.0), found.objective - best)
            self.searching += self.clock() - started
            points = sorted(wanted, key=lambda point: -wanted[point])[: max(0, budget - self.evaluations)]
            if not points:
                break
            added = self.meter.measure(np.array(points), advance, shares=self.shares)
            self.tried = together([known, added])
            if self.shares is None:
                self.measured = self.tried
        behaviour, rates = self._fit()
        started = self.clock()
        solved = [self._solved(goal, behaviour, rates) for goal in goals]
        self.searching += self.clock() - started
        return solved

    def _fit(self) -> tuple[Behaviour, Rates]:
        started = self.clock()
        found = self.fitted()
        self.fitting += self.clock() - started
        return found

    def _solved(self, goal: Goal, behaviour: Behaviour, rates: Rates) -> SolvedGoal:
        known, domains, levels = self._known(), behaviour.domains, behaviour.levels
        seen = self._rates(known)
        cost = _perplexity(known)
        keeps = misses(seen, goal, domains, levels, cost) <= 0
        done = keeps & np.array([reached(one, goal, domains, levels) for one in seen])
        # the mean of both: a rate of twenty queries is noisy, and the surface has seen the neighbours
        promise = self._objective(known, (seen + rates(known.points)) / 2, goal)
        place = int(np.argmax(np.where(done, promise, -np.inf) if done.any() else promise))
        predicted = rates(known.points[place : place + 1])[0]
        kept = bool(keeps[place])
        why = None
        if not (kept and reached(seen[place], goal, domains, levels)):
            found = search(behaviour, goal, rates)
            why = "it was predicted to be reached, but no measurement bore it out"
            if not (found.kept and reached(found.rates, goal, domains, levels)):
                why = blocked(behaviour, goal, rates)
        return SolvedGoal(
            goal=dict(goal.wanted),
            constraints=[str(one) for one in goal.constraints],
            knobs=self.meter.box.knobs(known.points[place]),
            predicted={
                d: {level: float(predicted[i, j]) for j, level in enumerate(levels)} for i, d in enumerate(domains)
            },
            measured=rate_intervals(known.rows, _verdicts(known, self.by)[place], levels),
            perplexity=None if cost is None else float(cost[place]),
            kept=kept,
            reached={f"{t:g}": kept and reached(seen[place], goal, domains, levels, t) for t in THRESHOLDS},
            blocked_by=why,
            spillover=knob_shifts(behaviour, known.points[place]),
        )

    def _objective(self, measured: Measured, rates: Array, goal: Goal) -> Array:
        return objective(rates, goal, measured.domains, measured.scores.levels, _perplexity(measured))

    def fitted(self) -> tuple[Behaviour, Rates]:
        """The surface through what was measured, and its rates of the solver's kind."""
        known = self._known()
        behaviour = Behaviour(self.meter.box, self.measured or known, self.shares)
        return behaviour, remembered(behaviour.level_rates if self.by == "level" else behaviour.preference_rates)

    def _rates(self, measured: Measured) -> Array:
        return measured_rates(measured, self.by)

    def _known(self) -> Measured:
        if self.tried is None:
            raise ConfigError("nothing was measured yet; explore first")
        return self.tried


def knob_shifts(behaviour: Behaviour, point: Points) -> dict[str, dict[str, float]]:
    """What each knob of a setting changes alone: knob to domain to mean |change| of its preference rates."""
    turned = np.diag(point)
    shifts = np.abs(behaviour.preference_rates(turned) - behaviour.preference_rates(np.zeros((1, len(point)))))
    sizes = shifts.mean(axis=2)
    return {
        name: dict(zip(behaviour.domains, sizes[i].tolist(), strict=True))
        for i, name in enumerate(behaviour.box.names)
        if point[i]
    }


def _perplexity(measured: Measured) -> Array | None:
    """Perplexity of the texts outside the domains, as a multiple of the base's, [points]."""
    if measured.general is None:
        return None
    lost = (measured.general.base - measured.general.sums).sum(axis=(1, 2))
    found: Array = np.exp(lost / measured.general.counts.sum())
    return found


def measured_rates(measured: Measured, by: Kind) -> Array:
    """Rates of every measured setting, [points, domains, levels]."""
    best = _verdicts(measured, by)
    shares = [
        [(best[:, measured.of(domain)] == level).mean(axis=1) for level in range(len(measured.scores.levels))]
        for domain in measured.domains
    ]
    return np.array(shares).transpose(2, 0, 1)


def rate_intervals(
    rows: Sequence[PreferenceRow], verdicts: npt.NDArray[np.int64], levels: Sequence[str]
) -> dict[str, dict[str, Interval]]:
    """Rates of one setting with 95 % intervals over personas, by domain and level.

    Args:
        rows: queries of all domains.
        verdicts: index of each query's level, [rows].
        levels: lowest first.
    """
    found: dict[str, dict[str, Interval]] = {}
    for domain in dict.fromkeys(row.domain for row in rows):
        own = [i for i, row in enumerate(rows) if row.domain == domain]
        personas = [rows[i].persona for i in own]
        found[domain] = {
            level: bootstrap_rate([float(verdicts[i] == j) for i in own], personas) for j, level in enumerate(levels)
        }
    return found


def _verdicts(measured: Measured, by: Kind) -> npt.NDArray[np.int64]:
    """Index of the level that each query has at each setting, [points, rows]."""
    if by == "preference":
        return np.asarray((measured.scores.sums / measured.scores.counts).argmax(axis=2), dtype=np.int64)
    if measured.said is None:
        raise ConfigError("no replies were generated, so there are no level rates; measure with a judge")
    return measured.said
