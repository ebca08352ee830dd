"""The rule for a coefficient outside the range in which its vector is known to work: it is cut to the range."""

from collections.abc import Mapping
from typing import TypeAlias

from alignvec.steer.knobs import Knobs

Range: TypeAlias = tuple[float, float]
"""Lowest and highest usable λ."""


def cut(knobs: Knobs, ranges: Mapping[str, Range]) -> tuple[dict[str, float], dict[str, Range]]:
    """Knobs with every coefficient inside its usable range, and the ranges of those that were outside.

    Args:
        knobs: a setting.
        ranges: of the vectors by name; a vector that is missing may have any λ.
    """
    within = {n: min(max(v, ranges[n][0]), ranges[n][1]) if n in ranges else v for n, v in knobs.items()}
    return within, {name: ranges[name] for name, value in knobs.items() if within[name] != value}


def outside(name: str, usable: Range) -> str:
    """What is wrong with a knob that was cut, for people."""
    return f"knob {name} is outside its usable range {usable[0]:g} to {usable[1]:g}"
