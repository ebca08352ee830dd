"""A sweep: one knob over a range of λ, measured on held-out queries (the paper's Figure 2)."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from alignvec.data.gates.loop import is_degenerate
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import KnobError
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import JudgeReport, LevelJudge
from alignvec.evaluate.preference import METERS, LevelScores, score_levels
from alignvec.evaluate.scope import rows_digest
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.files import write_text
from alignvec.provenance import Provenance, provenance
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import CurvePoint, Measurement
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.strict import Interval

COEFFICIENTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
READ = 10
"""Queries whose replies are written out for people."""


class Reply(BaseModel):
    """A generated reply with the judge's verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    query: str
    coefficient: float
    reply: str
    level: str
    degenerate: bool


class SweepResult(BaseModel):
    """Everything a sweep measured, as stored in `sweep.json`.

    Attributes:
        vector: the knob's name.
        data: name of the data file and split.
        queries: number of queries scored; their personas are the unit of the intervals.
        generated: number of queries replied to at every λ.
        curve: one point a λ.
        judge: the judge's own accuracy; None if nothing was generated.
        replies: the generated replies; stored beside, in `replies.jsonl`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vector: str
    base: str
    data: str
    levels: tuple[str, ...]
    queries: int
    generated: int
    sampling: Sampling
    curve: tuple[CurvePoint, ...]
    judge: JudgeReport | None
    replies: tuple[Reply, ...] = ()
    provenance: Provenance

    def measurement(self) -> Measurement:
        """The part of it that a card keeps."""
        return Measurement(
            data=self.data,
            queries=self.queries,
            generation={"queries": self.generated, **self.sampling.model_dump()},
            judge=self.judge.summary() if self.judge else "no replies were generated",
            curve=self.curve,
        )


def sweep(
    model: KnobbedModel,
    vector: str,
    rows: Sequence[PreferenceRow],
    *,
    data: str,
    coefficients: Sequence[float] = COEFFICIENTS,
    judge: LevelJudge | None = None,
    generate: int | None = None,
    sampling: Sampling | None = None,
    out: Path | None = None,
    batch_size: int = 16,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> SweepResult:
    """Measure preference rates, margins and level rates of one knob.

    Args:
        model: the model with the vector loaded.
        vector: name of the knob to turn.
        rows: held-out rows.
        data: name of the data, for the record.
        coefficients: values of λ.
        judge: gives generated replies their level; without one nothing is generated.
        generate: number of rows to generate replies for, the first ones; default all.
        sampling: how replies are decoded.
        out: folder for what `write_sweep` writes and the journal that a killed run goes on from.
        batch_size: replies generated at once.
        advance: called with a task's name, what was done and the total.

    Raises:
        KnobError: if no such vector is loaded or a coefficient is not finite.
        DataError: if a row does not fit the model's context, or `out` holds another sweep.
        StorageError: if `out` cannot be written.
    """
    sampling = sampling or Sampling()
    levels = levels_of(rows)
    settings = [{vector: value} for value in coefficients]
    journal = Journal(out / "journal.jsonl" if out else None, _scope(model, vector, sampling, data, rows))
    total = len(rows) * (len(settings) + 1)
    scores = score_levels(
        model, rows, levels, settings, journal=journal, advance=lambda n: advance("scoring", n, total)
    )
    replied = list(rows[:generate]) if judge else []
    replies: list[Reply] = []
    if judge and replied:
        count = len(replied) * len(settings)
        texts = generate_replies(
            model,
            replied,
            settings,
            sampling,
            journal=journal,
            batch_size=batch_size,
            advance=lambda n: advance("generating", n, count),
        )
        for value, column in zip(coefficients, texts, strict=True):
            verdicts = judge.verdicts(column)
            for row, text, level in zip(replied, column, verdicts, strict=True):
                broken = is_degenerate(text)
                replies.append(
                    Reply(row=row.id, query=row.query, coefficient=value, reply=text, level=level, degenerate=broken)
                )
    personas = {row.id: row.persona for row in rows}
    result = SweepResult(
        vector=vector,
        base=model.base.name,
        data=data,
        levels=levels,
        queries=len(rows),
        generated=len(replied),
        sampling=sampling,
        curve=tuple(_point(scores, i, value, replies, personas) for i, value in enumerate(coefficients)),
        judge=judge.report if judge and replied else None,
        replies=tuple(replies),
        provenance=provenance(),
    )
    if out:
        write_sweep(result, out)
    return result


def parse_coefficients(text: str) -> tuple[float, ...]:
    """Values of λ from text such as `-1,0,1`, in ascending order.

    Raises:
        KnobError: if a value is not a finite number, or comes twice.
    """
    try:
        values = sorted(float(part) for part in text.split(","))
    except ValueError:
        raise KnobError(f"cannot read λ values {text!r}; write numbers by commas, like -1,0,1") from None
    if not all(map(math.isfinite, values)) or len(set(values)) < len(values):
        raise KnobError(f"λ values {text!r} must be finite and different; write them like -1,0,1")
    return tuple(values)


class Table(BaseModel):
    """A table as text, narrow enough for a terminal of 80 columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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


def _cell(interval: Interval | None) -> str:
    return interval.told(comma=",") if interval else "-"


def write_sweep(result: SweepResult, out: Path) -> None:
    """Write sweep.json, sweep.csv, sweep.png, replies.jsonl and replies.md into a folder, each atomically.

    Raises:
        StorageError: if it cannot be written.
    """
    from alignvec.evaluate.plot import plot_sweep

    write_text(out / "sweep.json", result.model_dump_json(indent=1, exclude={"replies"}) + "\n")
    write_text(out / "sweep.csv", _csv(result))
    write_text(out / "replies.md", replies_text(result))
    write_text(out / "replies.jsonl", "".join(reply.model_dump_json() + "\n" for reply in result.replies))
    plot_sweep(result, out / "sweep.png")


def _point(
    scores: LevelScores, index: int, value: float, replies: Sequence[Reply], personas: dict[str, str]
) -> CurvePoint:
    mine = [reply for reply in replies if reply.coefficient == value]
    groups = [personas[reply.row] for reply in mine]
    level_rate = {
        level: bootstrap_rate([float(reply.level == level) for reply in mine], groups) if mine else None
        for level in scores.levels
    }
    preference = {meter: scores.preference_rate(index, meter) for meter in METERS}
    return CurvePoint(
        coefficient=value,
        preference_rate={meter: rates for meter, rates in preference.items() if rates},
        margin=scores.margin(index),
        margin_sum=scores.margin(index, per_token=False),
        level_rate={level: rate for level, rate in level_rate.items() if rate},
        degenerate=bootstrap_rate([float(reply.degenerate) for reply in mine], groups) if mine else None,
    )


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


def _scope(
    model: KnobbedModel, vector: str, sampling: Sampling, data: str, rows: Sequence[PreferenceRow]
) -> dict[str, Any]:
    card = model.vectors[vector].card if vector in model.vectors else None
    return {
        "vector": vector,
        "files": card.files if card else {},
        "method": card.method if card else "",
        "sampling": sampling.model_dump(),
        "data": data,
        "rows": rows_digest(rows),
        "base": fingerprint(model.base.folder),
        "dtype": str(model.base.model.dtype),
    }
