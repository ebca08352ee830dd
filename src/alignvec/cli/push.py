"""`alignvec push`: a vector, to a Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def push(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    repo: Annotated[str, typer.Argument(help="repository on the hub, OWNER/NAME; made if it is not there")],
    private: Annotated[bool, typer.Option("--private", help="the repository must be private")] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="branch; made if it is not there")] = None,
    json: JsonOption = False,
) -> None:
    """Upload a vector to the hub, with a model card.

    It is verified first. The token is $HF_TOKEN, or that of `hf auth login`.
    """
    from alignvec.vectors.hub import push as run

    url = run(vector, repo, private=private, revision=revision)
    if json:
        print_json({"repo": repo, "revision": revision, "url": url})
    else:
        typer.echo(f"pushed {vector} to {url}")
