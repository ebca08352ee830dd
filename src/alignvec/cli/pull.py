"""`alignvec pull`: a vector, from a Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def pull(
    repo: Annotated[str, typer.Argument(help="repository on the hub, OWNER/NAME")],
    out: Annotated[Path, typer.Option("--out", help="folder of the vector")],
    revision: Annotated[str | None, typer.Option("--revision", help="branch, tag or commit")] = None,
    json: JsonOption = False,
) -> None:
    """Download a vector from the hub and verify it.

    The token, if one is needed, is $HF_TOKEN, or that of `hf auth login`.
    """
    from alignvec.vectors.hub import pull as run
    from alignvec.vectors.store import load_card

    folder = run(repo, out, revision=revision)
    if json:
        print_json(load_card(folder))
    else:
        typer.echo(f"pulled {repo} to {folder}; describe it with: alignvec inspect {folder}")
