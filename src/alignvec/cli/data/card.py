"""`alignvec data card`: rows as a data set that others can use."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json


def card(
    rows: Annotated[Path, typer.Argument(help="rows as JSON lines")],
    out: Annotated[Path, typer.Option("--out", help="folder of the data set")],
    ratings: Annotated[
        list[Path] | None, typer.Option("--ratings", help="ratings of the replies, for the card; repeatable")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="report.json of the build, for the card")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="licence of the data set")] = None,
    title: Annotated[str | None, typer.Option("--title", help="title of the card; default: the domains")] = None,
    language: Annotated[str, typer.Option("--language", help="ISO 639-1 code of the texts")] = "en",
    json: JsonOption = False,
) -> None:
    """Write rows as a data set to publish.

    A folder with rows, Parquet, statistics, pictures and a dataset card that Hugging Face reads.
    """
    from alignvec.data.publish.card import load_report, write_dataset_folder

    found = write_dataset_folder(
        rows,
        out,
        title=title,
        report=load_report(report) if report else None,
        ratings=ratings or (),
        licence=licence,
        language=language,
    )
    if json:
        print_json(found)
        return
    known = found.confound.by_word_count
    typer.echo(f"{out}: {found.rows} rows, {found.personas} personas, levels {', '.join(found.levels)}")
    typer.echo(
        "level from word count alone: "
        + ("missing (one persona)" if known is None else f"{known:.2f} (chance {found.confound.chance:.2f})")
    )
    typer.echo(f'use it: datasets.load_dataset("{out}")')
