"""A measured transfer as tables and files."""

from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.evaluate.table import Table
from alignvec.files import write_text
from alignvec.vectors.strict import Interval

if TYPE_CHECKING:
    from alignvec.evaluate.transfer_record import Transfer


def tables(result: "Transfer") -> list[Table]:
    """Margins kept and, if replies were generated, what was said and the changes of level rates kept."""
    margins = [
        (_place(k.coefficient), _cell(k.native, ".3f"), _cell(k.foreign, ".3f"), _share(k.kept))
        for k in result.kept
        if k.measure == "margin"
    ]
    columns = ("native", "foreign", "kept, %")
    what = f"{result.vector}: margin, nats per token ({result.queries} queries, {result.data})"
    found = [Table(title=what, columns=("λ", *columns), rows=tuple(margins))]
    if not result.generated:
        return found
    said = [
        (
            f"{e.origin} {e.coefficient:g}" if e.coefficient else "stage",
            *(_cell(e.level_rate[level]) for level in result.levels),
            f"{e.degenerate.value:.2f}" if e.degenerate else "-",
        )
        for e in result.effects
    ]
    what = f"{result.vector}: level of the generated replies, by the judge ({result.generated} queries)"
    found.append(Table(title=what, columns=("λ", *result.levels, "broken"), rows=tuple(said)))
    ends = [
        (f"{k.level} at {k.coefficient:g}", _cell(k.native), _cell(k.foreign), _share(k.kept))
        for k in result.kept
        if k.measure == "level"
    ]
    what = f"{result.vector}: change of the wanted level's rate against the stage"
    return [*found, Table(title=what, columns=("level", *columns), rows=tuple(ends))] if ends else found


def summary(result: "Transfer") -> str:
    """One line: where both vectors come from, and how alike their weights are."""
    cosine = ", ".join(f"{'-' if c is None else format(c, '.2f')} at λ = {end}" for end, c in result.cosines.items())
    return f"foreign: trained on {result.foreign_base.name}; native: on {result.stage}; cosine of the weights {cosine}"


def write_transfer(result: "Transfer", out: Path) -> None:
    """Write transfer.json, atomically, and transfer.png.

    Raises:
        StorageError: if one cannot be written.
    """
    from alignvec.evaluate.transfer_plot import plot_transfers

    write_text(out / "transfer.json", result.model_dump_json(indent=1) + "\n")
    plot_transfers([result], out / "transfer.png")


def _place(coefficient: float | None) -> str:
    return "all" if coefficient is None else f"{coefficient:g}"


def _cell(interval: Interval, form: str = ".2f") -> str:
    return interval.told(form, comma=",")


def _share(kept: Interval | None) -> str:
    return kept.told(".0f", scale=100, comma=",") if kept else "-"
