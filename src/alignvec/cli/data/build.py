"""`alignvec data build`, and its steps alone: personas, queries, replies."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alignvec.cli.common import JsonOption, print_json
from alignvec.cli.data.job import DATASET, job_of
from alignvec.cli.data.options import (
    AttemptsOption,
    BudgetMoneyOption,
    BudgetTokensOption,
    DomainOption,
    EngineOption,
    EstimateOption,
    FirstOption,
    InFlightOption,
    JudgeKeyOption,
    JudgeModelOption,
    JudgeUrlOption,
    KeyOption,
    MaxTokensOption,
    ModelOption,
    NoJudgeOption,
    OutOption,
    PersonaHubOption,
    PersonasFromOption,
    PersonasOption,
    PriceInOption,
    PriceOutOption,
    PromptsOption,
    QueriesOption,
    RetriesOption,
    SeedOption,
    TemperatureOption,
    TimeoutOption,
    UrlOption,
)
from alignvec.errors import AlignvecError

if TYPE_CHECKING:
    from alignvec.data.synthesis.job import Job, Progress, Stage
    from alignvec.data.synthesis.report import BuildReport


def build(
    domain: DomainOption,
    out: OutOption,
    teacher_model: ModelOption,
    teacher_url: UrlOption = None,
    teacher_engine: EngineOption = "openai",
    personas: PersonasOption = 50,
    personas_from: PersonasFromOption = None,
    persona_hub: PersonaHubOption = None,
    queries_per_persona: QueriesOption = 2,
    judge_model: JudgeModelOption = None,
    judge_url: JudgeUrlOption = None,
    judge_key_variable: JudgeKeyOption = None,
    no_judge: NoJudgeOption = False,
    temperature: TemperatureOption = 0.7,
    max_tokens: MaxTokensOption = 400,
    retries: RetriesOption = 2,
    seed: SeedOption = 0,
    limit: FirstOption = None,
    prompts: PromptsOption = None,
    in_flight: InFlightOption = 16,
    timeout: TimeoutOption = 120.0,
    attempts: AttemptsOption = 6,
    key_variable: KeyOption = "OPENAI_API_KEY",
    budget_tokens: BudgetTokensOption = None,
    budget_money: BudgetMoneyOption = None,
    price_in: PriceInOption = 0.0,
    price_out: PriceOutOption = 0.0,
    estimate: EstimateOption = False,
    json: JsonOption = False,
) -> None:
    """Build preference data with a teacher model.

    Personas, queries and replies at every level, checked, split and described, into OUT. Every answer of the teacher is
    kept: stopped or killed, the same command goes on and asks for none of them again.
    """
    _run(("personas", "queries", "rows"), locals())


def _step(stage: "Stage", doc: str, *, without: set[str]) -> Callable[..., None]:
    """A command for one step: the options of `build` but those that other steps use."""

    def command(**given: Any) -> None:
        _run((stage,), given)

    kept = [one for name, one in inspect.signature(build).parameters.items() if name not in without]
    command.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in kept}
    command.__doc__ = doc
    return command


_PERSONAS = {"personas", "personas_from", "persona_hub"}
_JUDGE = {"judge_model", "judge_url", "judge_key_variable", "no_judge", "temperature", "max_tokens"}
personas = _step(
    "personas",
    "Build personas alone, into OUT/personas.jsonl.\n\n"
    "Invented over the domain's grid, or chosen from a file or PersonaHub.",
    without={"queries_per_persona", *_JUDGE},
)
queries = _step(
    "queries",
    "Build queries alone, into OUT/queries.jsonl.\n\nOf the personas in OUT/personas.jsonl.",
    without={*_PERSONAS, *_JUDGE},
)
replies = _step(
    "rows",
    "Build replies alone, into OUT/rows.jsonl and OUT/dataset.\n\nAt every level, to the queries in OUT/queries.jsonl.",
    without={"queries_per_persona", *_PERSONAS},
)


def _run(stages: tuple["Stage", ...], given: dict[str, Any]) -> None:
    from alignvec.data.synthesis.build import build as run

    job = job_of(stages, given)
    if given["estimate"]:
        _estimate(job, json=given["json"])
        return
    _estimate(job, err=True)
    reports: list[BuildReport] = []
    try:
        with _bars(job) as watch:
            run(job, watch, reports.append)
    except AlignvecError:
        for report in reports:
            _publish(job)
            _print(report, job, err=True)
        raise
    (report,) = reports
    folder = _publish(job)
    if given["json"]:
        print_json({**report.model_dump(), "out": str(job.out), "dataset": None if folder is None else str(folder)})
        return
    _print(report, job)
    if folder is not None:
        rows = job.out / "rows.jsonl"
        typer.echo(f"splits: {', '.join(f'{count} {split}' for split, count in report.splits.items())}")
        typer.echo(f"data: {rows}\nto publish: {folder}\nto review: alignvec data review {rows} --rater NAME")


def _estimate(job: "Job", *, json: bool = False, err: bool = False) -> None:
    from alignvec.data.synthesis.build import estimate

    asked = estimate(job)
    money = job.prices.cost(asked.prompt_tokens, asked.completion_tokens)
    if json:
        print_json({**asked._asdict(), "money": money})
        return
    spent = _spent(job, asked.prompt_tokens, asked.completion_tokens)
    kept = f"; {asked.kept:,} answers are there from before" if asked.kept else ""
    typer.echo(f"about {asked.requests:,} requests, {spent}, before retries{kept}", err=err)


def _spent(job: "Job", prompt_tokens: int, completion_tokens: int) -> str:
    money = job.prices.cost(prompt_tokens, completion_tokens)
    return f"{prompt_tokens:,} + {completion_tokens:,} tokens" + (f", {money:.4g} in money" if money else "")


def _publish(job: "Job") -> Path | None:
    """Write OUT/dataset from OUT/rows.jsonl, if the run made rows and there are any."""
    from alignvec.data.publish.card import write_dataset_folder
    from alignvec.data.synthesis.outputs import records_in, rejected_by_stage

    if "rows" not in job.stages or not records_in(job.out / "rows.jsonl"):
        return None
    folder = job.out / DATASET
    write_dataset_folder(
        job.out / "rows.jsonl",
        folder,
        report=rejected_by_stage(job.out),
        language=job.settings.domain.language,
    )
    return folder


@contextmanager
def _bars(job: "Job") -> Iterator[Callable[["Progress"], None]]:
    """Bars of the stages on stderr, with throughput, tokens and money."""
    from rich import progress
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    per = job.settings.queries_per_persona
    totals = {"personas": job.personas, "queries": job.personas * per, "rows": job.personas * per}
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {stage: bars.add_task(stage, total=totals[stage] or None, note="") for stage in job.stages}

        def watch(now: "Progress") -> None:
            rate = now.answers / now.seconds if now.seconds > 0 else 0.0
            waiting = f", waiting {now.held_back:.0f} s for the rate limit" if now.held_back > 1 else ""
            money = f", {now.money:.4g} in money" if now.money else ""
            note = f"{rate:.1f} answers/s, {now.cached:,} from before, {now.tokens:,} tokens{money}"
            for stage, task in tasks.items():
                bars.update(task, completed=now.made.get(stage, 0))
            bars.update(tasks[job.stages[-1]], note=note + waiting)

        yield watch


def _print(report: "BuildReport", job: "Job", *, err: bool = False) -> None:
    counted = {"personas": report.personas, "queries": report.queries}
    counted |= {f"replies, {level}": counts for level, counts in report.replies.items()}
    counted["rows"] = report.rows
    typer.echo(f"{report.domain}: {job.out}", err=err)
    for name, counts in counted.items():
        if counts is None or not (name in job.stages or name.startswith("replies")):
            continue
        parts = [f"{counts.made:,} made"] if not name.startswith("replies") else []
        for what, faults in (("rejected", counts.failed), ("asked anew", counts.retried)):
            if faults:
                why = ", ".join(f"{gate} {count:,}" for gate, count in faults.items())
                parts.append(f"{sum(faults.values()):,} {what} ({why})")
        typer.echo(f"  {name + ':':<20} {', '.join(parts) or 'none rejected'}", err=err)
    spent = report.spending
    typer.echo(
        f"{spent.answers:,} answers in {spent.seconds:.1f} s, {spent.cached:,} kept from before; in all "
        f"{_spent(job, spent.prompt_tokens, spent.completion_tokens)}",
        err=err,
    )
    for note in report.notes:
        typer.echo(f"note: {note}", err=err)
