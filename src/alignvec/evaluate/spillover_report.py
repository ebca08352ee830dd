"""Spillover as a table and files."""

from collections.abc import Sequence
from pathlib import Path

from alignvec.evaluate.spillover_record import Spillover
from alignvec.files import write_text
from alignvec.vectors.strict import Interval


def write_spillover(result: Spillover, out: Path) -> None:
    """Write spillover.json, atomically, and spillover.png.

    Raises:
        StorageError: if one cannot be written.
    """
    from alignvec.evaluate.spillover_plot import plot_spillover

    write_text(out / "spillover.json", result.model_dump_json(indent=1) + "\n")
    plot_spillover(result, out / "spillover.png")


def table_of(result: Spillover) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Columns and rows: mean absolute change of preference rates, in points, by knob and domain asked."""
    rows = []
    for knob, coefficient in dict.fromkeys((cell.knob, cell.coefficient) for cell in result.cells):
        cells = [cell for cell in result.cells if (cell.knob, cell.coefficient) == (knob, coefficient)]
        rows.append((f"{knob}={coefficient:g}", *(f"{'*' if c.own else ''}{points(c.preference.size)}" for c in cells)))
    return ("knob", *result.domains), rows


def points(rate: Interval) -> str:
    """A share as points with its interval."""
    return rate.told(".0f", scale=100)
