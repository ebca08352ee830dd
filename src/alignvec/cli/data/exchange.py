"""`alignvec data review-export` and `review-import`: review in Label Studio or Argilla."""

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, SeedOption, print_json
from alignvec.cli.data.review import DomainOption, tell_undefined

Tool = Literal["label-studio", "argilla"]
ToolOption = Annotated[Tool, typer.Option("--tool", help="the tool that people review in")]


def review_export(
    rows: Annotated[Path, typer.Argument(help="JSON-lines file of rows whose replies are to be judged")],
    tool: ToolOption,
    out: Annotated[Path, typer.Option("--out", help="new folder of tasks and settings")],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="this many replies, drawn from as many rows as possible")
    ] = None,
    domain: DomainOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write replies as blind review tasks for another tool.

    They are shuffled, and say nothing of the intended level.
    """
    from alignvec.data.load import load_rows
    from alignvec.data.review.definitions import definition_lines, definitions

    _require_new(out)
    loaded = load_rows(rows)
    defined = definitions(rows, loaded, domain)
    count = _module(tool).export(loaded, out, defined=definition_lines(defined), seed=seed, limit=limit)
    tell_undefined(defined)
    if json:
        print_json({"folder": str(out), "replies": count})
        return
    typer.echo(f"{count} replies in {out}")
    if tool == "label-studio":
        typer.echo("in Label Studio: paste config.xml as the labelling setup, import tasks.json, export as JSON")
    else:
        typer.echo(
            'in Python: rg.Dataset.from_disk("DIR", name=..., workspace=...); export records.to_list(flatten=True)'
        )


def review_import(
    export: Annotated[Path, typer.Argument(help="the tool's JSON export")],
    tool: ToolOption,
    rows: Annotated[list[Path], typer.Option("--rows", help="file that was exported for review; repeatable")],
    out: Annotated[Path, typer.Option("--out", help="new ratings file")],
    rater: Annotated[
        list[str] | None,
        typer.Option("--rater", help="ANNOTATOR=NAME, to call an annotator of the tool by another name; repeatable"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Turn another tool's annotations into a ratings file.

    Of several ratings of a reply by one rater the last counts.
    """
    from alignvec.data.load import load_rows
    from alignvec.data.review.ratings import ratings_text
    from alignvec.errors import DataError
    from alignvec.files import write_text

    _require_new(out)
    names = dict(_renamed(text) for text in rater or [])
    found = _module(tool).read(export, [row for path in rows for row in load_rows(path)], names=names)
    if not found.ratings:
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items()) or "the list is empty"
        raise DataError(f"{export}: no ratings in it ({reasons}); export again when annotators are done")
    write_text(out, ratings_text(found.ratings))
    raters = dict(sorted(Counter(rating.rater for rating in found.ratings).items()))
    if json:
        content = {"file": str(out), "ratings": len(found.ratings), "raters": raters}
        print_json(content | {"left_out": dict(found.left_out), "notes": list(found.notes)})
        return
    typer.echo(f"{len(found.ratings)} ratings in {out}: {', '.join(f'{name} ({n})' for name, n in raters.items())}")
    for reason, count in found.left_out.items():
        typer.echo(f"left out: {count} {reason}")
    for note in found.notes:
        typer.echo(f"note: {note}")


def _module(tool: Tool) -> ModuleType:
    from alignvec.data.review import argilla, label_studio

    return label_studio if tool == "label-studio" else argilla


def _renamed(text: str) -> tuple[str, str]:
    from alignvec.errors import ConfigError

    annotator, _, name = (part.strip() for part in text.partition("="))
    if not annotator or not name:
        raise ConfigError(f"--rater {text!r} is not ANNOTATOR=NAME; write for example --rater user-3=anna")
    return annotator, name


def _require_new(path: Path) -> None:
    from alignvec.errors import ConfigError

    if path.exists():
        raise ConfigError(f"{path} exists and is not overwritten; name another place with --out")
