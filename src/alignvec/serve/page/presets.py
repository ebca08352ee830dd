"""Named settings of the sliders, which the browser keeps; what it gives back may be old or made by hand."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from alignvec.serve.errors import BadRequestError

Presets: TypeAlias = Mapping[str, Mapping[str, float]]
"""Preset name to knobs."""
LONGEST_NAME = 40
MOST = 50


def read(stored: Any) -> Presets:
    """The presets in what the browser stored; what is none is left out."""
    if not isinstance(stored, dict):
        return {}
    return {
        name: {knob: float(value) for knob, value in knobs.items() if _number(value)}
        for name, knobs in stored.items()
        if isinstance(name, str) and isinstance(knobs, dict)
    }


def save(presets: Presets, name: str, knobs: Mapping[str, float]) -> Presets:
    """The presets with one more; one of the same name is replaced.

    Raises:
        BadRequestError: if it has no name, a long one, or there are too many.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME:
        raise BadRequestError(f"a preset needs a name of 1 to {LONGEST_NAME} characters; type one, then save")
    if name not in presets and len(presets) >= MOST:
        raise BadRequestError(f"there are {MOST} presets already; delete one first")
    return {**presets, name: dict(knobs)}


def delete(presets: Presets, name: str | None) -> Presets:
    """The presets without one.

    Raises:
        BadRequestError: if there is none of that name.
    """
    values(presets, name, ())
    return {key: knobs for key, knobs in presets.items() if key != name}


def values(presets: Presets, name: str | None, vectors: Sequence[str]) -> list[float]:
    """λ of each of these vectors in a preset; 0 for a vector that was not there when it was saved.

    Raises:
        BadRequestError: if there is no preset of that name.
    """
    if name is None or name not in presets:
        raise BadRequestError("choose a preset first")
    return [presets[name].get(vector, 0.0) for vector in vectors]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
