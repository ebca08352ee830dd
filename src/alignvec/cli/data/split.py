"""`alignvec data split`: splits by persona, dealt anew."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def split(
    rows: Annotated[Path, typer.Argument(help="rows as JSON lines")],
    out: Annotated[Path, typer.Option("--out", help="file for the rows with their new splits; may be the same file")],
    ratios: Annotated[str, typer.Option("--ratios", help="shares of train, validation and test")] = "0.7,0.1,0.2",
    salt: Annotated[str, typer.Option("--salt", help="another one deals the personas anew")] = "",
    json: JsonOption = False,
) -> None:
    """Give every row the split of its persona.

    Splits follow from a stable hash, so that new rows never move old ones.
    """
    from alignvec.data.publish.split import assign_splits, parse_ratios

    counts = assign_splits(rows, out, ratios=parse_ratios(ratios), salt=salt)
    if json:
        print_json({"out": str(out), "splits": counts})
    else:
        typer.echo(f"{out}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
