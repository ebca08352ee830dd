"""`alignvec verify`: is a vector what its card states?"""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def verify(
    folder: Annotated[Path, typer.Argument(help="a vector, or a folder of vectors")],
    base: Annotated[
        str | None, typer.Option("--base", help="base model to compare with; default: the card's, if it is here")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check a vector's files, and whether it fits its base.

    Reads the card, every hash, every value and factor; the exit code is 2 if anything is wrong.
    """
    from alignvec.errors import VectorError
    from alignvec.vectors.verify import verify as run

    report = run(folder, base=base)
    if json:
        print_json(report)
    else:
        for vector in report.vectors:
            typer.echo(f"{vector.name or 'no name'} ({vector.folder})")
            for check in vector.checks:
                typer.echo(f"  {check.state:7}  {check.name:16}  {check.detail}")
    if report.failed:
        vector, check = report.failed[0]
        more = f" (and {len(report.failed) - 1} more checks failed)" if report.failed[1:] else ""
        raise VectorError(f"{vector.folder}: {check.name}: {check.detail}{more}; copy or pull the vector again")
