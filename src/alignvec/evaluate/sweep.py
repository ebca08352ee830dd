"""A sweep: one knob over a range of λ, measured on held-out queries (the paper's Figure 2)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alignvec.data.gates.loop import is_degenerate
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import KnobError
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import METERS, LevelScores, score_levels
from alignvec.evaluate.scope import rows_digest
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.evaluate.sweep_record import Reply, SweepResult
from alignvec.evaluate.sweep_report import write_sweep
from alignvec.provenance import provenance
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import CurvePoint
from alignvec.vectors.fingerprint import fingerprint

COEFFICIENTS = (-1.0, -0.5, 0.0, 0.5, 1.0)


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
