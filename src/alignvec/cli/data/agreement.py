"""`alignvec data agreement`: how far raters agree, with each other and with the intended level."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignvec.cli.common import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from alignvec.data.review.agreement import Compared, Dispute, Report
    from alignvec.data.review.kappa import Estimate

SHOWN = 20
"""Disputes that are printed; a file has them all."""


def agreement(
    ratings: Annotated[
        list[Path], typer.Argument(help="ratings files; of two ratings of a reply by a rater, the last")
    ],
    rows: Annotated[
        list[Path] | None,
        typer.Option("--rows", help="rows that were rated, for the texts beside the disputes; repeatable"),
    ] = None,
    disputes: Annotated[
        Path | None, typer.Option("--disputes", help="write the replies in dispute here, as JSON lines")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="seed of the bootstrap")] = 0,
    json: JsonOption = False,
) -> None:
    """Measure how far raters of replies agree.

    Kappa with intervals, confusion tables, flags, and the replies in dispute; with each other and with the intended
    level.
    """
    from alignvec.data.load import load_rows
    from alignvec.data.review.agreement import load_all, report
    from alignvec.files import write_text

    found, replaced = load_all(ratings)
    if replaced:
        typer.echo(f"{replaced} ratings replaced by later ones of the same rater on the same reply", err=True)
    texts = [row for path in rows for row in load_rows(path)] if rows else None
    result = report(found, texts, seed=seed)
    if disputes:
        write_text(disputes, "".join(dispute.model_dump_json() + "\n" for dispute in result.disputes))
    if json:
        print_json(result)
    else:
        _print(result, disputes)
    if result.unknown_levels:
        by = "no row has" if rows else "no rated reply was written for"
        chosen = ", ".join(repr(level) for level in result.unknown_levels)
        typer.echo(f"note: raters chose {chosen}, which {by}; misspelt, or ratings of other rows?", err=True)


def _print(result: "Report", file: Path | None) -> None:
    raters = ", ".join(f"{name} ({count})" for name, count in result.raters.items())
    typer.echo(f"{result.replies} replies rated by {raters}")
    if result.model_raters:
        typer.echo(f"model raters, not humans: {', '.join(result.model_raters)}")
    if len(result.raters) == 1:
        typer.echo("one rater only: kappa between raters needs two; what follows is agreement with the intended level")
    lines = [(" x ".join(one.pair), one.agreement, one.left_out) for one in (*result.pairs, *result.intended)]
    if result.together:
        lines.insert(len(result.pairs), ("all raters (Fleiss)", result.together.agreement, result.together.left_out))
    typer.echo()
    notes: dict[str, list[str]] = {}
    for name, value, left_out in lines:
        used = f"{value.replies} replies" + (f" ({left_out} left out: not rated by both or all)" if left_out else "")
        typer.echo(f"{name}: kappa {_number(value.kappa)}; same level {_number(value.share)}; {used}")
        if value.kappa.note:
            notes.setdefault(value.kappa.note, []).append(name)
    typer.echo("brackets: 95 % intervals, rows resampled; exact (Clopper-Pearson) where a share is 0 or 1")
    for note, names in notes.items():
        typer.echo(f"note: {note} ({', '.join(names)})")
    for one in (*result.pairs, *result.intended):
        _print_confusion(one, result.levels)
    if any(result.flags.values()):
        typer.echo("\nflags")
    for rater, by in result.flags.items():
        for flag, count in by.items():
            typer.echo(f"- {rater}: {count} x {flag}")
    _print_disputes(result.disputes, file)


def _number(value: "Estimate") -> str:
    if value.value is None:
        return "missing"
    interval = "" if value.low is None or value.high is None else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{value.value:.2f}{interval}"


def _print_confusion(one: "Compared", levels: Sequence[str]) -> None:
    typer.echo(f"\n{one.pair[0]} (down) x {one.pair[1]} (across)")
    counts = [(level, *map(str, row)) for level, row in zip(levels, one.confusion, strict=True)]
    print_table(("", *levels), counts)


def _print_disputes(disputes: "Sequence[Dispute]", file: Path | None) -> None:
    typer.echo(f"\nreplies in dispute: {len(disputes)}")
    for one in disputes[:SHOWN]:
        verdicts = "; ".join(
            f"{name}: {by.level or 'no level'}" + (f", flag: {by.flag}" if by.flag else "")
            for name, by in one.verdicts.items()
        )
        typer.echo(f"- {one.id} (intended {one.intended}) {', '.join(one.why)} | {verdicts}")
        if one.query:
            typer.echo(f"  query: {one.query}\n  reply: {one.reply}")
    if len(disputes) > SHOWN and not file:
        typer.echo(f"... and {len(disputes) - SHOWN} more; --disputes FILE.jsonl writes all of them")
    if file:
        typer.echo(f"all of them in {file}")
