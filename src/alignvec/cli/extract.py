"""`alignvec extract`: any fine-tune of a base model, as a knob."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, SeedOption, print_json
from alignvec.progress import progress
from alignvec.vectors.mismatch import Mismatch


def extract(
    aligned: Annotated[str, typer.Option("--aligned", help="LoRA adapter folder, or full model, trained on the base")],
    name: Annotated[str, typer.Option("--name", help="the knob's name")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new vector")],
    base: Annotated[str, typer.Option("--base", help="base model: demo, a folder, or a hub id")] = "demo",
    negative: Annotated[
        str | None,
        typer.Option("--negative", help="like --aligned, trained on the reversed preference: what λ < 0 goes to"),
    ] = None,
    form: Annotated[
        Literal["hinged", "two-sided"] | None,
        typer.Option("--form", help="with --negative: how both sides become one vector; default: hinged"),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", help="domain that the vector is about, such as medical; default: none")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="licence of the vector")] = "unknown",
    allow: Annotated[
        list[Mismatch] | None,
        typer.Option(
            "--allow",
            help="go on although tensors differ in dtype or vocabulary size, or are missing; repeatable",
        ),
    ] = None,
    compressed: Annotated[
        str | None, typer.Option("--compress", help="a form such as rank=16 or sign; see alignvec compress")
    ] = None,
    storage: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option("--storage", help="dtype of the stored vector; default: the smallest that is exact"),
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Make a vector from a fine-tune: subtract its base."""
    import torch

    from alignvec.errors import ConfigError
    from alignvec.vectors.algebra import hinged, two_sided
    from alignvec.vectors.compress import compress, parse_form
    from alignvec.vectors.describe import describe
    from alignvec.vectors.extract import extract as run
    from alignvec.vectors.extract import other_base
    from alignvec.vectors.store import require_free, save_vector

    if form and not negative:
        raise ConfigError("--form combines two sides; give the other one with --negative")
    chosen = parse_form(compressed) if compressed else None
    require_free(out)
    for place in filter(None, (aligned, negative)):
        if named := other_base(base, place):
            said = f"{place} says that it was trained on {named[:200]!r}, and is taken for one of {base}; check --base"
            typer.echo(f"warning: {said}", err=True)
    with progress() as advance:
        sides = [
            run(
                base,
                place,
                name=name,
                allow=allow or (),
                domain=domain,
                licence=licence,
                advance=partial(advance, task),
            )
            for task, place in (("compare tensors", aligned), ("compare tensors of the other side", negative))
            if place
        ]
        vector = sides[0]
        if len(sides) == 2:
            vector = two_sided(*sides) if form == "two-sided" else hinged(*sides)
        if chosen:
            tensors = sum(len(part.deltas) for part in vector.parts)
            vector = compress(vector, chosen, seed=seed, advance=lambda done: advance("compress", done, tensors))
    saved = save_vector(vector, out, dtype=getattr(torch, storage) if storage else None)
    warnings = [side.card.source.warning() for side in sides if side.card.source]
    for warning in dict.fromkeys(filter(None, warnings)):
        typer.echo(f"warning: {warning}", err=True)
    if json:
        print_json(saved.card)
    else:
        typer.echo(f"{describe(saved)}\nsaved to {out}")
