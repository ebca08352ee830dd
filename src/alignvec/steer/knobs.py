"""Knobs: how far each vector is turned, written `medical=0.5,legal=-0.3`."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from alignvec.errors import KnobError
from alignvec.steer.scale import Scale
from alignvec.steer.solved import names_setting, read_setting

Knobs: TypeAlias = Mapping[str, float]
"""Vector name to coefficient λ; a vector that is not named is at 0."""
Turn: TypeAlias = Callable[[int, Knobs], Knobs]
"""What a setting becomes for one row, by the row's index."""


def as_asked(_: int, knobs: Knobs) -> Knobs:
    """The turn of a model without a router: every row has the setting itself."""
    return knobs


def parse_knobs(
    text: str, *, scales: Mapping[str, Scale] | None = None, router: bool | None = None
) -> dict[str, float]:
    """Parse `medical=0.5,legal=-0.3`; the empty text, or `base`, is no knob at all.

    `@settings.yaml#GOAL` is a solved setting of a file, see `read_setting`.

    Args:
        scales: of the vectors by name, so that `medical=expert` and `medical=80%` are understood too.
        router: whether a router acts on the knobs, so that a setting solved for the other case is refused; None: any.

    Raises:
        KnobError: if a part is not name=λ, λ is not a finite number, a name comes twice, or see `read_setting`.
    """
    knobs: dict[str, float] = {}
    if text.strip() in ("", "base"):
        return knobs
    if names_setting(text):
        for name, value in read_setting(text.strip()[1:], router=router).items():
            knobs[name] = (scales or {}).get(name, Scale(name)).coefficient(value)
        return knobs
    for part in text.split(","):
        name, _, value = (x.strip() for x in part.partition("="))
        if not name or not value:
            raise KnobError(f"cannot read knob {part.strip()!r}; write it like medical=0.5")
        if name in knobs:
            raise KnobError(f"knob {name!r} is given twice in {text!r}; give it once")
        knobs[name] = (scales or {}).get(name, Scale(name)).coefficient(value)
    return knobs


def join_knobs(texts: Sequence[str]) -> str:
    """Several texts as one setting for `parse_knobs`.

    Raises:
        KnobError: if one of several is a solved setting, which is whole by itself.
    """
    if len(texts) > 1 and any(map(names_setting, texts)):
        raise KnobError("a solved setting (@FILE#GOAL) is a whole setting; give it as the only --knob")
    return ",".join(texts)


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


def require_finite(settings: Sequence[Knobs], finite: Sequence[bool]) -> None:
    """Check that a model under each of some settings gave finite numbers.

    Raises:
        KnobError: naming the first setting under which it did not.
    """
    for knobs, fine in zip(settings, finite, strict=True):
        if not fine:
            raise KnobError(
                f"under {format_knobs(knobs)} the model's logits are no finite numbers, so there is no reply; "
                "turn the knobs closer to 0 (float32 reaches farther than float16)"
            )


def format_knobs(knobs: Knobs) -> str:
    """The text that `parse_knobs` reads back; `base` for no knobs."""
    return ",".join(f"{name}={_shortest(value)}" for name, value in knobs.items()) or "base"


def _shortest(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
