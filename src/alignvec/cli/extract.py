"""`alignvec extract`: any fine-tune of a base model, as a knob."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, print_json


def extract(
    aligned: Annotated[str, typer.Option("--aligned", help="LoRA adapter folder, or full model, trained on the base")],
    name: Annotated[str, typer.Option("--name", help="the knob's name")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new vector")],
    base: Annotated[str, typer.Option("--base", help="base model: demo, a folder, or a hub id")] = "demo",
    negative: Annotated[
        str | None, typer.Option("--negative", help="the same, trained on the reversed preference")
    ] = None,
    form: Annotated[
        Literal["hinged", "two-sided"] | None, typer.Option("--form", help="how both sides are combined")
    ] = None,
    storage: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option("--storage", help="dtype of the stored vector")
    ] = "float32",
    json: JsonOption = False,
) -> None:
    """Subtract a base model from a fine-tune of it, and save the difference as a vector."""
    import torch

    from alignvec.errors import ConfigError
    from alignvec.vectors.algebra import hinged, two_sided
    from alignvec.vectors.describe import describe
    from alignvec.vectors.extract import extract as run
    from alignvec.vectors.store import save_vector

    if form and not negative:
        raise ConfigError("--form combines two sides; give the other one with --negative")
    vector = run(base, aligned, name=name)
    if negative:
        other = run(base, negative, name=name)
        vector = two_sided(vector, other) if form == "two-sided" else hinged(vector, other)
    saved = save_vector(vector, out, dtype=getattr(torch, storage))
    if json:
        print_json(saved.card)
    else:
        typer.echo(f"{describe(saved)}\nsaved to {out}")
