"""Knobs of a command held to their usable ranges."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from alignvec.steer.knobs import Knobs
    from alignvec.steer.scale import Scale

StrictOption = Annotated[
    bool, typer.Option("--strict", help="refuse knobs outside the usable range instead of cutting them")
]


def format_applied(knobs: "Knobs") -> str:
    """Knobs as they were applied, for people: to thousandths, as a router's shares have many digits."""
    from alignvec.steer.knobs import format_knobs

    return format_knobs({name: round(value, 3) + 0.0 for name, value in knobs.items()})  # −0 becomes 0


def warn_unreached(texts: "Sequence[str]") -> None:
    """A warning on stderr for every solved setting among some texts that did not reach its goal."""
    from alignvec.steer.solved import unreached

    for line in filter(None, map(unreached, texts)):
        typer.echo(f"warning: {line}", err=True)


def within_usable(knobs: "Knobs", scales: "Mapping[str, Scale]", *, strict: bool) -> dict[str, float]:
    """Knobs cut to the usable ranges of their vectors, with one warning on stderr that names those that were cut.

    A vector of which nothing was measured may have any λ.

    Raises:
        KnobError: under `strict`, instead of cutting.
    """
    from alignvec.errors import KnobError
    from alignvec.steer.usable import cut, outside

    within, ranges = cut(knobs, {name: scale.usable for name, scale in scales.items() if scale.usable})
    told = [outside(f"{name}={knobs[name]:g}", usable) for name, usable in ranges.items()]
    if told and strict:
        raise KnobError(f"{told[0]}; ask for a value inside, or leave out --strict to have it cut")
    if told:
        applied = ", ".join(f"{name}={within[name]:g}" for name in ranges)
        typer.echo(f"warning: {'; '.join(told)}; cut to {applied}", err=True)
    return within
