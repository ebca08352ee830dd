"""`alignvec shipped`: what comes with alignvec, and a copy of it to work in."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def shipped(
    copy: Annotated[
        Path | None, typer.Option("--copy", help="write it all into this folder, where the commands of the docs run")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the vectors, data, recipes and routers that come with alignvec, or write them into a folder."""
    from alignvec.shipped import ROOT, copy_shipped, shipped_parts

    if copy:
        copy_shipped(copy)
    root = copy or ROOT
    parts = shipped_parts(root)
    if json:
        print_json({"root": str(root), "parts": [asdict(part) for part in parts]})
        return
    typer.echo(f"{'written to' if copy else 'in'} {root}:")
    for part in parts:
        count = f"{part.files} file{'' if part.files == 1 else 's'}"
        typer.echo(f"  {part.name:36} {count:>8} {part.bytes / 1e6:6.2f} MB  {part.about}")
