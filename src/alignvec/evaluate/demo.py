"""The demo: one question per domain at every level, and a small measured curve per knob."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from alignvec.data.load import levels_of, load_rows, shipped_file
from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.judge import judge_for
from alignvec.evaluate.sweep import COEFFICIENTS, sweep
from alignvec.evaluate.sweep_plot import plot_sweeps
from alignvec.evaluate.sweep_record import SweepResult
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling


class Answer(BaseModel):
    """A held-out question's reply at the recommended setting of one level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    query: str
    level: str
    coefficient: float
    reply: str


class DemoResult(BaseModel):
    """Answers side by side, a sweep a domain, and the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: tuple[Answer, ...]
    sweeps: tuple[SweepResult, ...]
    picture: Path


def answers(model: KnobbedModel, sampling: Sampling) -> list[Answer]:
    """The first test question of every domain at every level's recommended setting, all in one batch."""
    asked: list[tuple[str, PreferenceRow, str, float]] = []
    for name, vector in model.vectors.items():
        rows = load_rows(shipped_file(name), split="test", limit=1)
        asked += [(name, rows[0], level, vector.card.settings[level]) for level in levels_of(rows)]
    queries = [row.query for _, row, _, _ in asked]
    replies = model.generate(queries, [{name: value} for name, _, _, value in asked], sampling)
    return [
        Answer(domain=name, query=row.query, level=level, coefficient=value, reply=reply)
        for (name, row, level, value), reply in zip(asked, replies, strict=True)
    ]


def measure(
    model: KnobbedModel,
    out: Path,
    *,
    limit: int,
    sampling: Sampling,
    coefficients: Sequence[float] = COEFFICIENTS,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[list[SweepResult], Path]:
    """Sweep every knob on the first test queries of its domain; returns the results and the path of the picture."""
    results = []
    judge = judge_for(shipped_file(next(iter(model.vectors))))
    for name in model.vectors:
        data = shipped_file(name)
        rows = load_rows(data, split="test", limit=limit)

        def report(task: str, done: int, total: int, name: str = name) -> None:
            advance(f"{name}: {task}", done, total)

        results.append(
            sweep(
                model,
                name,
                rows,
                data=f"{data.name} test, first {len(rows)}",
                coefficients=coefficients,
                judge=judge,
                sampling=sampling,
                out=out / name,
                advance=report,
            )
        )
    picture = out / "demo.png"
    plot_sweeps(results, picture)
    return results, picture
