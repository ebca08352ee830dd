"""The best setting for a goal on a surface, and what blocks a goal that cannot be reached."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alignvec.solve.behaviour import Behaviour
from alignvec.solve.box import DIGITS, Points
from alignvec.solve.goals import REACHED, Goal
from alignvec.solve.surface import Array

MEAN_SHARE = 0.1
"""What the mean over domains counts beside the worst domain, so that the others are not given away for nothing."""
STEPS = 21
"""Values of each knob in the exhaustive search."""
FINE = 9
"""Values of each knob in a second search, between the neighbours of the best."""
Rates = Callable[[Points], Array]


@dataclass(frozen=True)
class Found:
    """The best setting for a goal.

    Attributes:
        point: λ of every axis.
        objective: see `objective`.
        rates: of every domain and level, [domains, levels].
    """

    point: tuple[float, ...]
    objective: float
    rates: Array


def objective(rates: Array, goal: Goal, domains: tuple[str, ...], levels: tuple[str, ...]) -> Array:
    """How near settings are to a goal, [points]: the worst wanted rate, and a tenth of their mean.

    Args:
        rates: [points, domains, levels].
        goal: the wanted levels; a domain's weight w counts a miss 1 − rate w times.
        domains: in the order of `rates`.
        levels: in the order of `rates`.
    """
    wanted = np.stack([rates[:, domains.index(d), levels.index(level)] for d, level in goal.wanted.items()], axis=1)
    weights = np.array([goal.weights.get(d, 1.0) for d in goal.wanted])
    near = 1.0 - weights * (1.0 - wanted)
    found: Array = (near.min(axis=1) + MEAN_SHARE * near.mean(axis=1)) / (1.0 + MEAN_SHARE)
    return found


def reached(
    rates: Array, goal: Goal, domains: tuple[str, ...], levels: tuple[str, ...], least: float = REACHED
) -> bool:
    """Whether every wanted level has the highest rate of its domain, and at least `least`.

    Args:
        rates: of one setting, [domains, levels].
    """
    for domain, level in goal.wanted.items():
        row, place = rates[domains.index(domain)], levels.index(level)
        if row[place] < least or (np.delete(row, place) >= row[place]).any():
            return False
    return True


def search(behaviour: Behaviour, goal: Goal, rates: Rates, *, steps: int = STEPS) -> Found:
    """The best setting of the box, by trying all of a grid and then a finer one around its best.

    Args:
        behaviour: the surface.
        goal: what is wanted.
        rates: rates of points, one of the behaviour's two kinds.
        steps: values of each knob.
    """
    domains, levels, box = behaviour.domains, behaviour.levels, behaviour.box
    coarse = box.grid(steps)
    best = coarse[np.argmax(objective(rates(coarse), goal, domains, levels))]
    low, high = np.array([[a.low, a.high] for a in box.axes]).T
    width = (high - low) / (steps - 1)
    sides = zip(best, width, low, high, strict=True)
    values = [np.clip(np.linspace(b - w, b + w, FINE), lowest, highest) for b, w, lowest, highest in sides]
    near = np.stack(np.meshgrid(*values), axis=-1).reshape(-1, len(values))
    points = np.concatenate([best[None], near.round(DIGITS)])
    near_goal = objective(rates(points), goal, domains, levels)
    chosen = points[np.argmax(near_goal)]
    found = rates(chosen[None])[0]
    point = tuple(float(value) for value in chosen)
    return Found(point, float(near_goal.max()), found)


def blocked(behaviour: Behaviour, goal: Goal, rates: Rates) -> str:
    """Why a goal cannot be reached: a level that is out of reach even alone, or levels that exclude each other.

    Of several levels that could be given up so that the others are reached, it names the one that leaves them best.
    """
    domains, levels = behaviour.domains, behaviour.levels

    def best(*kept: str) -> tuple[bool, float]:
        part = Goal({domain: goal.wanted[domain] for domain in kept}, goal.weights)
        found = search(behaviour, part, rates)
        return reached(found.rates, part, domains, levels), found.objective

    for domain, level in goal.wanted.items():
        if not best(domain)[0]:
            return f"{domain}={level} is not reached in this range of the knobs even alone"
    freed = (
        {d: best(*(other for other in goal.wanted if other != d)) for d in goal.wanted} if len(goal.wanted) > 1 else {}
    )
    given_up = max(freed, key=lambda d: freed[d], default=None)
    if given_up is None or not freed[given_up][0]:
        return "each of its levels is reached alone, but giving up any one of them does not free the others"
    others = ", ".join(f"{d}={level}" for d, level in goal.wanted.items() if d != given_up)
    level = goal.wanted[given_up]
    return f"spillover between {given_up} and the others: {others} is reached once {given_up}={level} is given up"
