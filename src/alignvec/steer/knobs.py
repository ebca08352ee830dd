"""Knobs: how far each vector is turned, written `medical=0.5,legal=-0.3`."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

from alignvec.errors import KnobError
from alignvec.steer.scale import Scale
from alignvec.steer.solved import read_setting

Knobs: TypeAlias = Mapping[str, float]
"""Vector name to coefficient λ; a vector that is not named is at 0."""


def parse_knobs(text: str, *, scales: Mapping[str, Scale] | None = None) -> dict[str, float]:
    """Parse `medical=0.5,legal=-0.3`; the empty text, or `base`, is no knob at all.

    `@settings.yaml#GOAL` is a solved setting of a file, see `read_setting`.

    Args:
        scales: of the vectors by name, so that `medical=expert` and `medical=80%` are understood too.

    Raises:
        KnobError: if a part is not name=λ, λ is not a finite number, or a name comes twice.
    """
    knobs: dict[str, float] = {}
    if text.strip() in ("", "base"):
        return knobs
    if text.strip().startswith("@"):
        for name, value in read_setting(text.strip()[1:]).items():
            knobs[name] = (scales or {}).get(name, Scale(name)).coefficient(value)
        return knobs
    for part in text.split(","):
        name, equals, value = (x.strip() for x in part.partition("="))
        if not name or not equals or not value:
            raise KnobError(f"cannot read knob {part.strip()!r}; write it like medical=0.5")
        if name in knobs:
            raise KnobError(f"knob {name!r} is given twice in {text!r}; give it once")
        knobs[name] = (scales or {}).get(name, Scale(name)).coefficient(value)
    return knobs


def check_knobs(knobs: Knobs, loaded: Collection[str]) -> None:
    """Check that every knob names a loaded vector and has a finite coefficient.

    Raises:
        KnobError: naming the knob and what is wrong with it.
    """
    for name, value in knobs.items():
        if name not in loaded:
            have = ", ".join(loaded) or "none"
            raise KnobError(f"no vector named {name!r} is loaded (have: {have}); check --knob and --vectors")
        if not math.isfinite(value):
            raise KnobError(f"knob {name!r} has coefficient {value}, which is not a finite number; use one like 0.5")


def format_knobs(knobs: Knobs) -> str:
    """The text that `parse_knobs` reads back; `base` for no knobs."""
    return ",".join(f"{name}={_shortest(value)}" for name, value in knobs.items()) or "base"


def merge_knobs(parts: Iterable[Knobs]) -> dict[str, float]:
    """One setting from several; a later part replaces an earlier one's coefficient."""
    return {name: value for part in parts for name, value in part.items()}


def _shortest(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
