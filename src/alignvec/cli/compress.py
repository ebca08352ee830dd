"""`alignvec compress`: a vector in smaller forms, and what each costs."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignvec.cli.common import (
    DataOption,
    JsonOption,
    LimitOption,
    ModelOption,
    SeedOption,
    Split,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from alignvec.evaluate.compression import CompressionReport


def compress(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    form: Annotated[
        list[str], typer.Option("--form", help="rank=16, size=1/16, energy=0.9, topk=0.02, dare=0.9, sign; repeatable")
    ],
    out: Annotated[Path, typer.Option("--out", help="folder for the vectors, compression.json and compression.png")],
    behaviour: Annotated[
        bool, typer.Option("--behaviour", help="also measure what the model prefers, on held-out rows")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="exact singular vectors instead of a randomised SVD")] = False,
    model: ModelOption = "demo",
    data: DataOption = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "validation",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write a vector in one or several smaller forms, and tell what each costs."""
    from alignvec.data.load import levels_of, load_rows, shipped_file
    from alignvec.evaluate.compression import (
        CompressionReport,
        behaviours,
        form_result,
        plot_forms,
        score_ends,
    )
    from alignvec.files import write_text
    from alignvec.models import load
    from alignvec.provenance import provenance
    from alignvec.vectors.compress import compress as run
    from alignvec.vectors.compress import dense_bytes, parse_form
    from alignvec.vectors.store import load_vector, require_free, save_vector

    forms = list(dict.fromkeys(parse_form(text) for text in form))
    for chosen in forms:
        require_free(out / _folder(str(chosen)))
    original = load_vector(vector, lazy=True)
    path = data or shipped_file(original.card.domain or original.name) if behaviour else None
    rows = load_rows(path, split=split, limit=limit) if path else []
    levels = levels_of(rows) if rows else ()
    base = load(model) if rows else None
    results = []
    with progress() as advance:
        before = score_ends(base, load_vector(vector), rows, levels) if base else None
        for chosen in forms:
            tensors = sum(len(part.deltas) for part in original.parts)
            small = run(
                original,
                chosen,
                svd="exact" if exact else "randomised",
                seed=seed,
                advance=partial(advance, str(chosen), total=tensors),
            )
            save_vector(small, out / _folder(str(chosen)))
            changes = []
            if base and before:
                changes = behaviours(original, before, score_ends(base, small, rows, levels), levels)
            results.append(form_result(original, str(chosen), small, changes))
    report = CompressionReport(
        vector=original.name,
        dense_bytes=dense_bytes(original),
        data=f"{path.name} {split}" if path else None,
        queries=len(rows),
        seed=seed,
        forms=results,
        provenance=provenance(),
    )
    write_text(out / "compression.json", report.model_dump_json(indent=1) + "\n")
    plot_forms(report, out / "compression.png")
    if json:
        print_json(report)
    else:
        _show(report, out)


def _folder(form: str) -> str:
    return form.replace("=", "-")


def _show(report: "CompressionReport", out: Path) -> None:
    rows = [
        (f.form, f"{f.bytes / 1e6:.2f}", f"{f.share:.4f}", f"{f.weight_error:.3f}", out / _folder(f.form))
        for f in report.forms
    ]
    print_table(
        ["form", "MB", "share of 16-bit", "weight error", "saved to"], [[str(cell) for cell in row] for row in rows]
    )
    measured = [
        (
            f.form,
            f"{b.coefficient:g}",
            b.level,
            f"{b.rate.value:.2f}",
            f"{b.change.value:+.1f} [{b.change.low:+.1f}, {b.change.high:+.1f}]",
            "-" if b.margin_kept is None else f"{b.margin_kept:.2f}",
        )
        for f in report.forms
        for b in f.behaviour
    ]
    if measured:
        title = f"what the model prefers, {report.queries} queries of {report.data}, 95 % intervals"
        print_table(["form", "λ", "level", "rate before", "change, points", "margin kept"], measured, title=title)
    typer.echo(f"{out / 'compression.png'}")
