"""`alignvec inspect`: what a vector is, in words."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def inspect(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    json: JsonOption = False,
) -> None:
    """Describe a vector: base, method, settings, measurements."""
    from alignvec.vectors.describe import describe
    from alignvec.vectors.store import load_vector

    loaded = load_vector(vector)
    if json:
        print_json(loaded.card)
    else:
        typer.echo(describe(loaded))
