"""A sweep as tables, text to read and files."""

import csv
import io
from pathlib import Path

from alignvec.evaluate.sweep_record import SweepResult
from alignvec.evaluate.table import Table
from alignvec.files import write_text
from alignvec.vectors.card import CurvePoint
from alignvec.vectors.strict import Interval

READ = 10
"""Queries whose replies are written out for people."""


def tables(result: SweepResult) -> list[Table]:
    """What the model prefers by λ and, if replies were generated, what it says; with 95 % intervals."""
    levels = result.levels
    preferred = [
        (f"{p.coefficient:g}", _cell(p.margin), *(_cell(p.preference_rate.get("per_token", {}).get(v)) for v in levels))
        for p in result.curve
    ]
    said = [
        (f"{p.coefficient:g}", *(_cell(p.level_rate.get(v)) for v in levels), _cell(p.degenerate))
        for p in result.curve
        if p.degenerate
    ]
    what = f"{result.vector}: likeliest of the reference replies, per token ({result.queries} queries, {result.data})"
    found = [Table(title=what, columns=("λ", "margin", *levels), rows=tuple(preferred))]
    if said:
        what = f"{result.vector}: level of the generated replies, by the judge ({result.generated} queries)"
        found.append(Table(title=what, columns=("λ", *levels, "broken"), rows=tuple(said)))
    return found


def replies_text(result: SweepResult, count: int = READ) -> str:
    """Markdown with the replies to the first `count` queries at every λ, unpicked."""
    lines = [
        f"# {result.vector}: replies to the first {min(count, result.generated)} queries of {result.data}, unpicked",
        "",
    ]
    lines += [f"Decoding: {result.sampling.model_dump()}. The level in brackets is the judge's.", ""]
    for row in list(dict.fromkeys(reply.row for reply in result.replies))[:count]:
        mine = [reply for reply in result.replies if reply.row == row]
        lines += [f"## {row}", "", f"> {' '.join(mine[0].query.split())}", ""]
        for reply in mine:
            verdict = f"{reply.level}, degenerate" if reply.degenerate else reply.level
            lines += [f"**λ = {reply.coefficient:g}** ({verdict}): {' '.join(reply.reply.split())}", ""]
    return "\n".join(lines)


def write_sweep(result: SweepResult, out: Path) -> None:
    """Write sweep.json, sweep.csv, sweep.png, replies.jsonl and replies.md into a folder, each atomically.

    Raises:
        StorageError: if it cannot be written.
    """
    from alignvec.evaluate.sweep_plot import plot_sweep

    write_text(out / "sweep.json", result.model_dump_json(indent=1, exclude={"replies"}) + "\n")
    write_text(out / "sweep.csv", _csv(result))
    write_text(out / "replies.md", replies_text(result))
    write_text(out / "replies.jsonl", "".join(reply.model_dump_json() + "\n" for reply in result.replies))
    plot_sweep(result, out / "sweep.png")


def _csv(result: SweepResult) -> str:
    """One line a measured value: coefficient, measure, level, value, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["coefficient", "measure", "level", "value", "low", "high"])

    def line(point: CurvePoint, measure: str, level: str, interval: Interval) -> None:
        writer.writerow([point.coefficient, measure, level, interval.value, interval.low, interval.high])

    for point in result.curve:
        line(point, "margin_per_token", "", point.margin)
        line(point, "margin_sum", "", point.margin_sum)
        for meter, rates in point.preference_rate.items():
            for level, rate in rates.items():
                line(point, f"preference_rate_{meter}", level, rate)
        for level, rate in point.level_rate.items():
            line(point, "level_rate", level, rate)
        if point.degenerate:
            line(point, "degenerate", "", point.degenerate)
    return text.getvalue()


def _cell(interval: Interval | None) -> str:
    return interval.told(comma=",") if interval else "-"
