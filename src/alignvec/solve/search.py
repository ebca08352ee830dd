"""The best setting for a goal on a surface, and what blocks a goal that cannot be reached."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from alignvec.errors import DataError
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.box import DIGITS, Points
from alignvec.solve.goals import REACHED, Goal
from alignvec.solve.surface import Array

MEAN_SHARE = 0.1
"""What the mean over domains counts beside the worst domain, so that the others are not given away for nothing."""
STEPS = 21
"""Values of each knob in the exhaustive search, if there are few knobs."""
MOST = 10_000
"""Settings of the exhaustive search; of more than three knobs fewer values are tried."""
FINE = 1_000
"""Settings of each finer search, between the neighbours of the best so far."""
NEAR = 80
"""Where the search stops: at this part of a knob's range between neighbours."""
Rates = Callable[[Points], Array]


def remembered(rates: Rates) -> Rates:
    """The same rates, each set of points predicted once: every goal is searched for on the same grid."""
    found: dict[bytes, Array] = {}

    def recall(points: Points) -> Array:
        key = points.tobytes()
        if key not in found:
            found[key] = rates(points)
        return found[key]

    return recall


@dataclass(frozen=True)
class Found:
    """The best setting for a goal.

    Attributes:
        point: λ of every axis.
        objective: see `objective`.
        rates: of every domain and level, [domains, levels].
        kept: whether it keeps the goal's constraints.
    """

    point: tuple[float, ...]
    objective: float
    rates: Array
    kept: bool


def objective(
    rates: Array, goal: Goal, domains: tuple[str, ...], levels: tuple[str, ...], perplexity: Array | None = None
) -> Array:
    """How near settings are to a goal, [points]: the worst wanted rate, and a tenth of their mean.

    A setting that breaks a constraint is worse than any that keeps all of them, the more so the more it breaks.

    Args:
        rates: [points, domains, levels].
        goal: the wanted levels; a domain's weight w counts a miss 1 − rate w times.
        domains: in the order of `rates`.
        levels: in the order of `rates`.
        perplexity: of texts outside the domains, as a multiple of the base's, [points]; for a goal that bounds it.
    """
    wanted = np.stack([rates[:, domains.index(d), levels.index(level)] for d, level in goal.wanted.items()], axis=1)
    weights = np.array([goal.weights.get(d, 1.0) for d in goal.wanted])
    near = 1.0 - weights * (1.0 - wanted)
    found: Array = (near.min(axis=1) + MEAN_SHARE * near.mean(axis=1)) / (1.0 + MEAN_SHARE)
    missed = misses(rates, goal, domains, levels, perplexity)
    return found - np.where(missed > 0, weights.max() + missed, 0.0)


def misses(
    rates: Array, goal: Goal, domains: tuple[str, ...], levels: tuple[str, ...], perplexity: Array | None = None
) -> Array:
    """By how much settings break a goal's constraints, summed, [points]; arguments as for `objective`."""
    found = np.zeros(len(rates))
    for one in goal.constraints:
        if one.domain is not None:
            values = rates[:, domains.index(one.domain), levels.index(one.level)]
        elif perplexity is not None:
            values = perplexity
        else:
            raise DataError(f"the constraint {one} needs texts outside the domains; measure some")
        found += np.maximum(one.miss(values), 0.0)
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


def search(behaviour: Behaviour, goal: Goal, rates: Rates) -> Found:
    """The best setting of the box, by trying all of a grid and then finer ones around the best.

    Args:
        behaviour: the surface.
        goal: what is wanted.
        rates: rates of points, one of the behaviour's two kinds.
    """
    domains, levels, box = behaviour.domains, behaviour.levels, behaviour.box

    def judged(points: Points) -> tuple[Array, Array]:
        perplexity = behaviour.perplexity(points) if goal.bounds_perplexity else None
        given = rates(points), goal, domains, levels, perplexity
        return objective(*given), misses(*given)

    axes = len(box.axes)
    steps, fine = min(STEPS, values_each(MOST, axes)), max(3, values_each(FINE, axes))
    coarse = box.grid(steps)
    best = coarse[np.argmax(judged(coarse)[0])]
    low, high = np.array([[a.low, a.high] for a in box.axes]).T
    width = (high - low) / (steps - 1)
    while True:
        sides = zip(best, width, low, high, strict=True)
        values = [np.clip(np.linspace(b - w, b + w, fine), lowest, highest) for b, w, lowest, highest in sides]
        near = np.stack(np.meshgrid(*values), axis=-1).reshape(-1, axes)
        points = np.concatenate([best[None], near.round(DIGITS)])
        found, missed = judged(points)
        place = int(np.argmax(found))
        best = points[place]
        width = width * min(0.5, 2 / (fine - 1))
        if (width <= (high - low) / NEAR).all():
            break
    point = tuple(float(value) for value in best)
    return Found(point, float(found[place]), rates(best[None])[0], bool(missed[place] <= 0))


def values_each(count: int, axes: int) -> int:
    """Values of each of some knobs that make at most so many settings; at least two."""
    return max(2, int(count ** (1 / axes) + 1e-9))


def blocked(behaviour: Behaviour, goal: Goal, rates: Rates) -> str:
    """Why a goal cannot be reached: a level that is out of reach even alone, or levels that exclude each other.

    Of several levels that could be given up so that the others are reached, it names the one that leaves them best.
    """
    domains, levels = behaviour.domains, behaviour.levels

    def best(*kept: str) -> tuple[bool, float]:
        part = replace(goal, wanted={domain: goal.wanted[domain] for domain in kept})
        found = search(behaviour, part, rates)
        return reached(found.rates, part, domains, levels) and found.kept, found.objective

    if goal.constraints:
        free = replace(goal, constraints=())
        if reached(search(behaviour, free, rates).rates, free, domains, levels):
            return f"the constraints: it is reached without {', '.join(map(str, goal.constraints))}"
    for domain, level in goal.wanted.items():
        if not best(domain)[0]:
            under = f" under {', '.join(map(str, goal.constraints))}" if goal.constraints else ""
            return f"{domain}={level} is not reached in this range of the knobs even alone{under}"
    freed = (
        {d: best(*(other for other in goal.wanted if other != d)) for d in goal.wanted} if len(goal.wanted) > 1 else {}
    )
    given_up = max(freed, key=lambda d: freed[d], default=None)
    if given_up is None or not freed[given_up][0]:
        return "each of its levels is reached alone, but giving up any one of them does not free the others"
    others = ", ".join(f"{d}={level}" for d, level in goal.wanted.items() if d != given_up)
    level = goal.wanted[given_up]
    return (
        f"spillover between {given_up} and the others: by the surface {others} would be reached if "
        f"{given_up}={level} were given up"
    )
