"""`alignvec convert`: a mergekit configuration as a merge recipe."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def convert(
    mergekit: Annotated[Path, typer.Argument(help="mergekit's YAML file")],
    out: Annotated[Path, typer.Option("--out", help="the new merge recipe")],
    json: JsonOption = False,
) -> None:
    """Turn a mergekit configuration into a merge recipe.

    Says what is not the same.
    """
    import yaml

    from alignvec.errors import ConfigError
    from alignvec.files import write_text
    from alignvec.merge.mergekit import convert as run

    if out.resolve() == mergekit.resolve():
        raise ConfigError(f"--out {out} is the mergekit file itself; choose another name")
    values, notes = run(mergekit)
    write_text(out, yaml.safe_dump(values, sort_keys=False, default_flow_style=None, allow_unicode=True))
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if json:
        print_json({"recipe": str(out), "notes": notes, "values": values})
    else:
        typer.echo(out)
