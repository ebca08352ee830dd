"""Where to measure one knob: from a few λ outwards while the limits hold, then where behaviour changes most."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from alignvec.solve.knob_meter import Position
from alignvec.vectors.calibration import Limits

START = (-1.0, -0.5, 0.0, 0.5, 1.0)
STEP = 0.5
Measure = Callable[[Sequence[float]], Sequence[Position]]


def explore(measure: Measure, limits: Limits, *, points: int = 9, farthest: float = 2.0) -> list[Position]:
    """Measure a knob at a few well-chosen values of λ.

    `START` comes first. Each side is extended by `STEP` while all of it is within the limits. What is left goes to the
    middles between neighbours that differ most in a rate, in the usable range and up to the first point beyond it.

    Args:
        measure: behaviour at values of λ.
        limits: what bounds the usable range.
        points: number of values, at least those of `START`.
        farthest: largest |λ| that is tried.

    Returns:
        The positions by λ.
    """
    found = {position.coefficient: position for position in measure(START)}
    while wanted := _farther(_by_coefficient(found), limits, farthest)[: points - len(found)]:
        found |= {position.coefficient: position for position in measure(wanted)}
    while len(found) < points:
        middle = _middle(_by_coefficient(found), limits)
        found |= {position.coefficient: position for position in measure([middle])}
    return _by_coefficient(found)


def usable_range(positions: Sequence[Position], limits: Limits) -> tuple[float, float]:
    """Lowest and highest λ up to which every position from 0 on is within the limits.

    Args:
        positions: by λ, with one at 0.
        limits: what holds in the range.
    """
    first, last = _within(positions, limits)
    return positions[first].coefficient, positions[last].coefficient


def _by_coefficient(found: Mapping[float, Position]) -> list[Position]:
    return [found[value] for value in sorted(found)]


def _within(positions: Sequence[Position], limits: Limits) -> tuple[int, int]:
    """Indices of the first and last position of the usable range."""
    zero = next(i for i, p in enumerate(positions) if p.coefficient == 0)
    holds = [not p.broken(positions[zero], limits) for p in positions]
    first = last = zero
    while first > 0 and holds[first - 1]:
        first -= 1
    while last + 1 < len(positions) and holds[last + 1]:
        last += 1
    return first, last


def _farther(positions: Sequence[Position], limits: Limits, farthest: float) -> list[float]:
    """The next λ of each side that is within the limits to its end."""
    first, last = _within(positions, limits)
    wanted = [positions[-1].coefficient + STEP] if last == len(positions) - 1 else []
    wanted += [positions[0].coefficient - STEP] if first == 0 else []
    return [value for value in wanted if abs(value) <= farthest]


def _middle(positions: Sequence[Position], limits: Limits) -> float:
    """Middle of the two neighbours that differ most; of equal ones the widest apart."""
    first, last = _within(positions, limits)
    gaps = list(pairwise(positions[max(first - 1, 0) : last + 2]))
    left, right = max(gaps, key=lambda gap: (_difference(*gap), gap[1].coefficient - gap[0].coefficient))
    return (left.coefficient + right.coefficient) / 2


def _difference(one: Position, other: Position) -> float:
    pairs = ((one.level_rate(), other.level_rate()), (one.preference_rate(), other.preference_rate()))
    return max(abs(a[level] - b[level]) for a, b in pairs for level in one.levels)
