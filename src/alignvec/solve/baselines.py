"""Grid, random search, Optuna and our own solver in one harness: how good is the setting that each believes best?

One measurement gives the rates of all domains and levels. So a method that does not look at a goal serves all goals
with the same settings, our solver adapts to all of them at once, and Optuna needs settings of its own for each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from alignvec.errors import ConfigError
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.box import DIGITS, Points
from alignvec.solve.goals import Goal
from alignvec.solve.measure import Measured, Source
from alignvec.solve.oracle import Oracle
from alignvec.solve.search import Rates, objective
from alignvec.solve.solver import Kind, Solver, measured_rates
from alignvec.solve.surface import Array

ROUNDS = 3
"""Most rounds of verifying and refining, as in `Solver.solve`."""
KEPT_FITS = 8
"""Fits that are remembered: the design's, which every goal begins with, outlives the rounds of each."""


@dataclass(frozen=True)
class Run:
    """One run of a strategy.

    Attributes:
        source: measures settings.
        goals: what is wanted.
        by: what rates are of.
        budget: most settings to measure.
        seed: of the strategy.
    """

    source: Source
    goals: Sequence[Goal]
    by: Kind
    budget: int
    seed: int

    def objectives(self, measured: Measured) -> Array:
        """How near each measured setting is to each goal, [points, goals]."""
        rates, domains, levels = measured_rates(measured, self.by), measured.domains, measured.scores.levels
        return np.stack([objective(rates, goal, domains, levels) for goal in self.goals], axis=1)


Step = tuple[int, Points]
"""Settings measured so far, and for each goal the setting that is believed best, [goals, axes]."""
Strategy = Callable[[Run], Iterator[Step]]


@dataclass(frozen=True)
class Method:
    """A strategy, and what its settings are worth to other goals.

    Attributes:
        name: for tables.
        strategy: makes steps.
        serves: `all`, the settings do not depend on the goals; `given`, they adapt to all goals of a run; `one`, a run
            has one goal.
    """

    name: str
    strategy: Strategy
    serves: Literal["all", "given", "one"]


@dataclass(frozen=True)
class Curves:
    """What a method's belief is worth, by the oracle's rates; NaN before its first one.

    Attributes:
        alone: after each evaluation, when a goal is the only one, [evaluations, goals].
        together: after each evaluation, when all goals are solved, [evaluations, goals].
        alone_used: evaluations that a goal alone took until the method ended, a mean over goals.
        together_used: evaluations that all goals took.
    """

    alone: Array
    together: Array
    alone_used: float
    together_used: int


def grid(steps: int) -> Method:
    """A grid, in a random order.

    In the order of its corners, half a grid would be half of the box, and its curve would tell about the order alone.
    """

    def strategy(run: Run) -> Iterator[Step]:
        points = run.source.box.grid(steps)
        yield from _one_by_one(run, np.random.default_rng(run.seed).permutation(points))

    return Method(f"grid {steps}", strategy, "all")


def random() -> Method:
    """Settings drawn evenly from the box."""
    return Method("random", lambda run: _one_by_one(run, run.source.box.random(run.budget, run.seed)), "all")


def tpe() -> Method:
    """Optuna's tree-structured Parzen estimator with its defaults."""
    return Method("optuna tpe", lambda run: _tuned(run, _optuna().samplers.TPESampler(seed=run.seed)), "one")


def gp() -> Method:
    """Optuna's Gaussian process with its defaults."""
    return Method("optuna gp", lambda run: _tuned(run, _optuna().samplers.GPSampler(seed=run.seed)), "one")


def surface(settings: int) -> Method:
    """Our solver: a design, then rounds of searching the surface and measuring where it promises more.

    Args:
        settings: in the design; the base is measured besides.
    """
    fits: dict[bytes, tuple[Behaviour, Rates]] = {}

    def strategy(run: Run) -> Iterator[Step]:
        solver = _Remembering(run.source, run.by, fits=fits)
        solver.explore(min(settings, run.budget - 1), run.seed)
        yield from _seen_best(run, solver.seen)
        yield len(solver.seen.points), solver.believed(run.goals)
        for _ in range(ROUNDS):
            before = len(solver.seen.points)
            points = solver.believed(run.goals, rounds=1, budget=run.budget)
            if len(solver.seen.points) == before:
                return
            yield len(solver.seen.points), points

    return Method(f"surface {settings}", strategy, "given")


def compare(method: Method, oracle: Oracle, goals: Sequence[Goal], *, by: Kind, budget: int, seed: int) -> Curves:
    """Run a method for every goal alone, and for all of them.

    Args:
        method: what to run.
        oracle: answers for the model.
        goals: what is wanted.
        by: what rates are of.
        budget: most settings of a run; a goal alone and all goals together have the same, but for a method that
            serves one goal: there it is for each.
        seed: of the method and of the measurements' noise.
    """

    def curve(wanted: Sequence[Goal]) -> tuple[Array, int]:
        run = Run(oracle.source(seed), wanted, by, budget, seed)
        return _values(method.strategy(run), oracle, run)

    if method.serves == "all":
        every, used = curve(goals)
        return Curves(every, every, used, used)
    single = [curve([goal]) for goal in goals]
    alone, used_each = np.concatenate([values for values, _ in single], axis=1), [used for _, used in single]
    if method.serves == "given":
        together, used = curve(goals)
        return Curves(alone, together, float(np.mean(used_each)), used)
    # in turn, one setting for each goal
    start = np.full((len(goals) - 1, len(goals)), np.nan)
    together = np.concatenate([start, alone.repeat(len(goals), axis=0)])[: budget * len(goals)]
    return Curves(alone, together, float(np.mean(used_each)), sum(used_each))


def _values(steps: Iterator[Step], oracle: Oracle, run: Run) -> tuple[Array, int]:
    """Objective by the oracle of what is believed after each evaluation, [budget, goals], and evaluations used."""
    found = np.full((run.budget, len(run.goals)), np.nan)
    used = 0
    for used, points in steps:
        rates = oracle.rates(points, run.by)
        found[used - 1 :] = [objective(rates[[i]], goal, *oracle.names)[0] for i, goal in enumerate(run.goals)]
    return found, used


def _one_by_one(run: Run, points: Points) -> Iterator[Step]:
    return _seen_best(run, run.source.measure(points[: run.budget]))


def _seen_best(run: Run, measured: Measured) -> Iterator[Step]:
    """After each setting, those with the best measurements so far."""
    values = run.objectives(measured)
    for done in range(1, len(values) + 1):
        yield done, measured.points[values[:done].argmax(axis=0)]


def _tuned(run: Run, sampler: Any) -> Iterator[Step]:
    """An Optuna study of one goal."""
    optuna, axes = _optuna(), run.source.box.axes
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space = {axis.name: optuna.distributions.FloatDistribution(axis.low, axis.high) for axis in axes}
    best, believed = -np.inf, np.zeros((1, len(axes)))
    for done in range(1, run.budget + 1):
        trial = study.ask(space)
        asked = np.array([[trial.params[axis.name] for axis in axes]]).round(DIGITS)
        measured = run.source.measure(asked)
        value = float(run.objectives(measured)[0, 0])
        # the study learns of the setting that was measured: a rounded one, or the nearest of a pool
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        params = dict(zip(space, measured.points[0].tolist(), strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
        if value > best:
            best, believed = value, measured.points
        yield done, believed


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("Optuna is not installed; install it with `pip install 'alignvec[solve]'`") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass
class _Remembering(Solver):
    """The solver, which fits the same measurements once.

    Attributes:
        fits: by what was measured; all goals alone begin with the same design.
    """

    fits: dict[bytes, tuple[Behaviour, Rates]] = field(default_factory=dict)

    @property
    def seen(self) -> Measured:
        """Everything measured so far."""
        return self._known()

    def believed(self, goals: Sequence[Goal], *, rounds: int = 0, budget: int = 0) -> Points:
        """Settings that are believed best after some rounds, [goals, axes]."""
        return np.array([self.meter.box.point(one.knobs) for one in self.solve(goals, rounds=rounds, budget=budget)])

    def fitted(self) -> tuple[Behaviour, Rates]:
        said = b"" if self.seen.said is None else self.seen.said.tobytes()
        key = sha256(self.seen.points.tobytes() + self.seen.scores.sums.tobytes() + said).digest()
        if key in self.fits:
            self.fits[key] = self.fits.pop(key)  # now the latest
        else:
            self.fits[key] = super().fitted()
        if len(self.fits) > KEPT_FITS:
            del self.fits[next(iter(self.fits))]
        return self.fits[key]
