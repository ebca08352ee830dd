"""`alignvec data import`: preference sets that one already has."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, print_json


def import_(
    file: Annotated[Path, typer.Argument(help=".jsonl, .json or .csv (also .gz), or .parquet")],
    out: Annotated[Path, typer.Option("--out", help="file for the rows")],
    format: Annotated[
        Literal["auto", "pairs", "safe-rlhf", "hh-rlhf", "ultrafeedback"],
        typer.Option("--format", help="auto: told from the first record"),
    ] = "auto",
    column: Annotated[
        list[str] | None, typer.Option("--map", help="a column under another name, prompt=question; repeatable")
    ] = None,
    prefer: Annotated[
        Literal["safer", "better"], typer.Option("--prefer", help="the preference of safe-rlhf that counts")
    ] = "safer",
    alike: Annotated[
        Literal["keep", "skip"],
        typer.Option("--alike", help="pairs of safe-rlhf whose replies are both flagged safe, or both unsafe"),
    ] = "keep",
    multi_turn: Annotated[
        Literal["skip", "flatten"], typer.Option("--multi-turn", help="flatten: the transcript becomes the query")
    ] = "skip",
    domain: Annotated[str, typer.Option("--domain", help="domain of the rows")] = "imported",
    licence: Annotated[str | None, typer.Option("--licence", help="licence of the set, for provenance")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="read the first N records only")] = None,
    rejected: Annotated[
        Path | None, typer.Option("--rejected", help="file for what makes no row; default: beside OUT")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Turn (prompt, chosen, rejected) records into rows.

    The rows have the levels `rejected` and `chosen`.
    """
    from alignvec.data.foreign.formats import Reading
    from alignvec.data.preference_sets import import_pairs
    from alignvec.errors import ConfigError

    columns = {}
    for entry in column or ():
        name, equals, source = entry.partition("=")
        if not (name and equals and source):
            raise ConfigError(f"--map {entry!r} is not NAME=COLUMN; write it like prompt=question")
        columns[name] = source
    rest = rejected or out.with_name(f"{out.stem}.rejected.jsonl")
    done = import_pairs(
        file,
        out,
        rest,
        format=format,
        columns=columns,
        domain=domain,
        reading=Reading(multi_turn, prefer, alike),
        limit=limit,
        licence=licence,
    )
    if json:
        print_json({"out": str(out), "rejected_file": str(rest), **done.model_dump()})
        return
    splits = ", ".join(f"{name} {count}" for name, count in done.splits.items())
    typer.echo(f"{done.rows} of {done.read} {done.format} records of {file} are rows of {out} now: {splits}")
    for note, count in done.notes.items():
        typer.echo(f"{count} of them: {note}")
    if done.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in done.rejected.items())
        typer.echo(f"{done.read - done.rows} are in {rest}: {reasons}")
    typer.echo(f"in the recipe: data: {out}, order: {done.order}")
