"""Solved goals as pictures: what every goal reaches, and what its domains must give up for each other."""

from collections.abc import Mapping, Sequence
from itertools import combinations, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from alignvec.evaluate.drawing import COLOURS
from alignvec.files import write_figure
from alignvec.solve.goals import REACHED
from alignvec.solve.search import MOST, values_each
from alignvec.solve.surface import Array

if TYPE_CHECKING:
    from alignvec.solve.behaviour import Behaviour
    from alignvec.solve.search import Rates
    from alignvec.solve.solver import SolvedGoal
    from alignvec.vectors.strict import Interval

STEPS = 15
"""Values of each knob in the cloud of what the surface holds possible."""


class MeasuredGoal(Protocol):
    """A goal with what its setting was measured to reach, when it was solved or on held-out queries."""

    @property
    def goal(self) -> Mapping[str, str]:
        """Domain to wanted level."""

    @property
    def measured(self) -> Mapping[str, Mapping[str, "Interval"]]:
        """Domain to level to rate."""

    @property
    def reached(self) -> Mapping[str, bool]:
        """Threshold to whether the goal was reached."""


def plot_goals(goals: Sequence[MeasuredGoal], path: Path, *, title: str) -> None:
    """Draw the rate of every wanted level with its interval, a line a goal, into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    domains = list(dict.fromkeys(domain for goal in goals for domain in goal.goal))
    figure = Figure(figsize=(8.5, 1.4 + 0.3 * len(goals)), layout="constrained")
    axis = figure.subplots()
    offsets = np.linspace(-0.22, 0.22, len(domains)) if len(domains) > 1 else [0.0]
    for colour, domain, offset in zip(cycle(COLOURS), domains, offsets, strict=False):
        rates = [goal.measured[domain][goal.goal[domain]] for goal in goals if domain in goal.goal]
        places = [i + offset for i, goal in enumerate(goals) if domain in goal.goal]
        low, high = zip(*(rate.drawn for rate in rates), strict=True)
        axis.hlines(places, low, high, color=colour, alpha=0.45, linewidth=2)
        axis.plot([r.value for r in rates], places, "o", color=colour, markersize=4.5, label=domain)
    axis.axvline(REACHED, color="0.5", linewidth=0.8, linestyle="--")
    axis.set_yticks(
        range(len(goals)), [" ".join(goal.goal.get(domain, "-") for domain in domains) for goal in goals], fontsize=8
    )
    for tick, goal in zip(axis.get_yticklabels(), goals, strict=True):
        tick.set_color("black" if goal.reached[f"{REACHED:g}"] else "#b3241e")
    axis.set_ylabel(" ".join(domains))
    axis.set_ylim(len(goals) - 0.4, -0.6)
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel(f"rate of the wanted level (red: goal not reached at {REACHED:g})")
    axis.set_title(title, fontsize=10)
    figure.legend(frameon=False, fontsize=8, ncols=len(domains), loc="outside lower center")
    write_figure(path, figure)


def plot_pareto(behaviour: "Behaviour", rates: "Rates", goals: Sequence["SolvedGoal"], path: Path) -> None:
    """Draw what the wanted levels of every two domains cost each other, a row of panels a goal, into a PNG.

    Grey: settings of the box by the surface. Line: those that no other one beats in both. Star: the setting, measured.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    cloud = rates(behaviour.box.grid(min(STEPS, values_each(MOST, len(behaviour.box.axes)))))
    pairs = list(combinations(goals[0].goal, 2))
    figure = Figure(figsize=(4.0 * len(pairs), 3.8 * len(goals)), layout="constrained")
    for goal, axes in zip(goals, figure.subplots(len(goals), len(pairs), squeeze=False), strict=True):
        for (one, other), axis in zip(pairs, axes, strict=True):
            _draw(axis, behaviour, cloud, goal, one, other)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=len(labels), loc="outside lower center")
    figure.suptitle("rates of the wanted levels: what two domains cost each other", fontsize=10)
    write_figure(path, figure)


def _draw(axis: Any, behaviour: "Behaviour", cloud: Array, goal: "SolvedGoal", one: str, other: str) -> None:
    x, y = (cloud[:, behaviour.domains.index(d), behaviour.levels.index(goal.goal[d])] for d in (one, other))
    axis.plot(x, y, ".", color="0.8", markersize=2, label="settings, by the surface")
    best = front(x, y)
    axis.plot(x[best], y[best], "-", color=COLOURS[2], linewidth=1.2, label="best of them")
    at = [goal.measured[d][goal.goal[d]] for d in (one, other)]
    errors = [[[rate.value - rate.drawn[0]], [rate.drawn[1] - rate.value]] for rate in at]
    axis.errorbar(
        at[0].value, at[1].value, xerr=errors[0], yerr=errors[1],
        fmt="*", color=COLOURS[0], markersize=12, linewidth=1, label="the solved setting, measured",
    )  # fmt: skip
    for draw in (axis.axvline, axis.axhline):
        draw(REACHED, color="0.6", linewidth=0.7, linestyle="--")
    axis.set(
        xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=f"{one}={goal.goal[one]}", ylabel=f"{other}={goal.goal[other]}"
    )


def front(x: Array, y: Array) -> Any:
    """Places of the points that no other beats in both coordinates, by rising x."""
    order = np.lexsort((-y, -x))
    highest = np.maximum.accumulate(y[order])
    kept = [0, *(i for i in range(1, len(order)) if y[order[i]] > highest[i - 1])]
    return order[kept][::-1]
