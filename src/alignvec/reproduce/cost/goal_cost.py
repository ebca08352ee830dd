"""Cost of a new multi-domain goal: seconds to solve it against seconds to train one model on all domains jointly.

Solving measures settings on the model once, fits a surface, and then searches it for each goal; the search is timed
live, on the surface fitted anew from the journal. A joint run is one DPO run over all domains for one goal (the
paper's baseline, arXiv 2410.19206, which found solving 12 times cheaper).
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from alignvec.errors import ConfigError
from alignvec.progress import Advance
from alignvec.provenance import Provenance, provenance
from alignvec.reproduce.cost.goal_records import Evaluations, Trained
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.box import Box
from alignvec.solve.goals import Goal
from alignvec.solve.measure import Measured, Meter
from alignvec.solve.search import remembered, search
from alignvec.solve.seconds import Clock
from alignvec.solve.solver import Kind
from alignvec.solve.surface import Array
from alignvec.vectors.strict import Strict

PAPER = 12.0
"""How many times cheaper the paper finds a goal by solving than by joint training."""
WANTED = 50.0
"""How many times cheaper a further goal is meant to be here."""


class SearchSeconds(Strict):
    """What fitting a surface, and searching it for one goal after the other, took on this machine.

    Attributes:
        fit: seconds to fit.
        goals: seconds to search for each goal as if it were the only one: nothing is remembered between goals.
    """

    fit: float
    goals: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the median goal."""
        ordered, middle = sorted(self.goals), len(self.goals) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class GoalCost(Strict):
    """Seconds of solving and of joint training.

    Attributes:
        settings: that were measured on the model to solve, the base included.
        evaluations: seconds of measuring all of them.
        estimated: whether a part of these was found in a journal, and counted at the pace of the rest.
        search: of the surface.
        verified: settings measured to verify one new goal.
        joint: seconds of one joint run for one goal.
        vectors: seconds of training the vectors; None if it is not known. Joint training needs none.
        machines: where each part was measured, by part.
    """

    settings: int
    evaluations: float
    estimated: bool
    search: SearchSeconds
    verified: int
    joint: float
    vectors: float | None
    machines: dict[str, str]
    provenance: Provenance

    @property
    def evaluation(self) -> float:
        """Seconds of measuring one setting."""
        return self.evaluations / self.settings

    def further(self, *, verify: bool) -> float:
        """Seconds of one more goal: its search, and measuring its setting if it is to be verified."""
        return self.search.median + (self.verified * self.evaluation if verify else 0.0)

    def first(self, *, verify: bool, vectors: bool = False) -> float:
        """Seconds of the first goal: everything measured, the fit and its search, and the vectors if they count.

        Raises:
            ConfigError: if the vectors are to count and their seconds are not known.
        """
        trained = 0.0
        if vectors:
            if self.vectors is None:
                raise ConfigError("the vectors' training seconds are not known; name their run.json files")
            trained = self.vectors
        return trained + self.evaluations + self.search.fit + self.further(verify=verify)

    def each_of(self, goals: int, *, verify: bool, vectors: bool = False) -> float:
        """Seconds a goal, of so many goals solved on one set of evaluations."""
        return (self.first(verify=verify, vectors=vectors) + (goals - 1) * self.further(verify=verify)) / goals

    def cheaper(self, goals: int, *, verify: bool, vectors: bool = False) -> float:
        """How many times cheaper than joint training each of so many goals is; below 1 it is dearer."""
        return self.joint / self.each_of(goals, verify=verify, vectors=vectors)

    def break_even(self, *, verify: bool, vectors: bool = False) -> int | None:
        """Fewest goals from which solving costs no more than joint training of each; None if it never does."""
        saved = self.joint - self.further(verify=verify)
        if saved <= 0:
            return None
        once = self.first(verify=verify, vectors=vectors) - self.further(verify=verify)
        return max(1, -int(-once // saved))

    def formula(self) -> str:
        """The arithmetic with its numbers, in words."""
        further = self.further(verify=True)
        lines = [
            "further goal = search + verified settings x seconds a setting",
            f"  = {self.search.median:.3f} + {self.verified} x {self.evaluation:.1f} = {further:.1f} s",
            "first goal = evaluations + fit + a further goal",
            f"  = {self.evaluations:.0f} + {self.search.fit:.2f} + {further:.1f} = {self.first(verify=True):.0f} s",
            "each of k goals = (first goal + (k - 1) x further goal) / k",
            f"joint training of each goal = {self.joint:.0f} s",
            "times cheaper = joint training / each of k goals",
        ]
        if self.vectors is not None:
            lines.insert(4, f"  with the vectors' training, {self.vectors:.0f} s more, once")
        return "\n".join(lines)


def time_search(
    measured: Measured,
    box: Box,
    goals: Sequence[Goal],
    *,
    by: Kind = "level",
    shares: Array | None = None,
    clock: Clock = time.perf_counter,
) -> SearchSeconds:
    """Fit a surface and search it for each goal, timed.

    Args:
        measured: settings, as `replay` reads them from a journal.
        box: the knobs.
        goals: one or more.
        by: kind of rates.
        shares: how much of each knob acts on each row, if a router turns them.
        clock: seconds.

    Raises:
        ConfigError: if there are no goals.
        DataError: if there are too few settings, or no replies for rates by level.
    """
    if not goals:
        raise ConfigError("no goals to search for; give one or more")
    started = clock()
    behaviour = Behaviour(box, measured, shares)
    fit = clock() - started
    seconds = []
    for goal in goals:
        started = clock()
        search(behaviour, goal, remembered(behaviour.level_rates if by == "level" else behaviour.preference_rates))
        seconds.append(clock() - started)
    return SearchSeconds(fit=fit, goals=tuple(seconds))


def time_settings(meter: Meter, settings: int, timed: int, *, seed: int, advance: Advance) -> Evaluations:
    """Seconds of so many settings, at the pace of a few random ones.

    The base, which every setting is measured against, is measured first: that warms up, and does not count.

    Args:
        meter: without a journal of earlier measurements.
        settings: number that is counted.
        timed: number that is measured.
        seed: of the settings that are.
        advance: called with a task's name, what was done and the total.
    """
    draw, axes = np.random.default_rng(seed), meter.box.axes
    low, high = (np.array([getattr(axis, end) for axis in axes]) for end in ("low", "high"))
    meter.measure(np.zeros((1, len(axes))), advance)
    before = meter.scoring.seconds + meter.generating.seconds
    meter.measure(draw.uniform(low, high, size=(timed, len(axes))), advance)
    spent = meter.scoring.seconds + meter.generating.seconds - before
    return Evaluations(
        settings=settings, seconds=spent / timed * settings, estimated=True, machine=provenance().machine
    )


def goal_cost(
    evaluations: Evaluations,
    joint: Sequence[Trained],
    search: SearchSeconds,
    *,
    vectors: Mapping[str, Trained] | None = None,
    verified: int = 1,
) -> GoalCost:
    """Put the seconds together.

    Args:
        evaluations: of the settings that the surface is fitted on.
        joint: joint training runs, each for one goal; their mean counts.
        search: on this machine, see `time_search`.
        vectors: every run that made the vectors, by its name; none: not counted.
        verified: settings measured to verify one goal.

    Raises:
        ConfigError: if `verified` is negative, or there is no joint run.
    """
    if verified < 0:
        raise ConfigError(f"{verified} settings to verify a goal; give 0 or more")
    if not joint:
        raise ConfigError("no joint training run to compare with; give one or more")
    here = provenance()
    machines = {
        "evaluations": evaluations.machine,
        "joint training": ", ".join(dict.fromkeys(run.machine for run in joint)),
        "search": here.machine,
    }
    return GoalCost(
        settings=evaluations.settings,
        evaluations=evaluations.seconds,
        estimated=evaluations.estimated,
        search=search,
        verified=verified,
        joint=sum(run.seconds for run in joint) / len(joint),
        vectors=sum(run.seconds for run in vectors.values()) if vectors else None,
        machines=machines | {name: run.machine for name, run in (vectors or {}).items()},
        provenance=here,
    )
