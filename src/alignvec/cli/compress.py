"""`alignvec compress`: a vector in smaller forms, and what each costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignvec.cli.common import (
    DataOption,
    JsonOption,
    LimitOption,
    SeedOption,
    Split,
    print_json,
    print_table,
)
from alignvec.cli.launched import leave_to_main
from alignvec.progress import progress

if TYPE_CHECKING:
    from alignvec.evaluate.compression import CompressionReport


def compress(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    form: Annotated[
        list[str],
        typer.Option(
            "--form",
            help="rank=16, size=1/16, energy=.9, topk=.02, dare=.9, sign, dense; repeatable, a vector each",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="folder for the vectors, compression.json and compression.png")],
    behaviour: Annotated[
        bool, typer.Option("--behaviour", help="also measure what the model prefers, on held-out rows")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="exact singular vectors instead of a randomised SVD")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="base model for --behaviour: demo, a folder, or a hub id")
    ] = None,
    data: DataOption = None,
    split: Annotated[Split | None, typer.Option("--split", help="train, validation (default) or test")] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write a vector in smaller forms, and tell what each costs."""
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.evaluate.compression import compress_forms
    from alignvec.models import load
    from alignvec.vectors.compress import parse_form
    from alignvec.vectors.store import load_card

    measured = {"--model": model, "--data": data, "--split": split, "--limit": limit}
    if not behaviour and (unused := [option for option, value in measured.items() if value is not None]):
        raise ConfigError(f"{unused[0]} says what to measure behaviour on; pass --behaviour too, or leave it out")
    if not behaviour:
        leave_to_main()
    forms = list(dict.fromkeys(parse_form(text) for text in form))
    card = load_card(vector)
    path = data or shipped_file(card.domain or card.name) if behaviour else None
    rows = load_rows(path, split=split or "validation", limit=limit) if path else []
    with progress() as advance:
        report = compress_forms(
            vector,
            forms,
            out,
            base=load(model or "demo") if rows else None,
            rows=rows,
            data=f"{path.name} {split or 'validation'}" if path else None,
            svd="exact" if exact else "randomised",
            seed=seed,
            advance=advance,
        )
    if json:
        print_json(report)
    else:
        _show(report, out)


def _show(report: "CompressionReport", out: Path) -> None:
    rows = [(f.form, f"{f.bytes / 1e6:.2f}", f"{f.share:.4f}", f"{f.weight_error:.3f}") for f in report.forms]
    print_table(["form", "MB", "of 16 bits", "weight error"], rows)
    measured = [
        (
            f.form,
            f"{b.coefficient:g}",
            b.level,
            f"{b.rate.value:.2f}",
            b.change.told("+.1f"),
            "-" if b.margin_kept is None else f"{b.margin_kept:.2f}",
        )
        for f in report.forms
        for b in f.behaviour
    ]
    if measured:
        title = f"what the model prefers, {report.queries} queries of {report.data}"
        print_table(
            ["form", "λ", "level", "rate before", "change, points [95 %]", "margin kept"], measured, title=title
        )
    typer.echo(f"{out}: a folder for each form, compression.json, compression.png")
