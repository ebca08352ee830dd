"""`alignvec data build`, and its steps alone: personas, queries, replies."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alignvec.cli.common import JsonOption, print_json
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
    from alignvec.data.synthesis.job import Job, PersonaChoice, Progress, Stage
    from alignvec.data.synthesis.report import BuildReport
    from alignvec.data.teacher.batched import InProcess


DATASET = "dataset"
"""Folder to publish, in the folder of a build."""


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

    job = _job(stages, given)
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
        typer.echo(f"data: {rows}\nto publish: {folder}\nto review: alignvec data review {rows}")


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


def _job(stages: tuple["Stage", ...], given: dict[str, Any]) -> "Job":
    from alignvec import models
    from alignvec.data.domain import load_domain
    from alignvec.data.publish.card import require_free
    from alignvec.data.schema import Sampling
    from alignvec.data.synthesis.job import Job
    from alignvec.data.synthesis.prompts import load_prompts
    from alignvec.data.synthesis.settings import REPLY_SAMPLING, BuildSettings
    from alignvec.data.teacher.budget import Limits, Prices
    from alignvec.data.teacher.endpoint import Endpoint
    from alignvec.errors import ConfigError
    from alignvec.vectors.fingerprint import fingerprint

    for option in ("teacher_model", "judge_model"):
        if given.get(option) == "":
            raise ConfigError(f"--{option.replace('_', '-')} is empty; name the model at the endpoint")
    vllm = given["teacher_engine"] == "vllm"
    if vllm and given["teacher_url"]:
        raise ConfigError("--teacher-engine vllm has no URL; leave out --teacher-url, or the engine")
    if not vllm and not given["teacher_url"]:
        raise ConfigError("no teacher: name its --teacher-url, or use --teacher-engine vllm")
    if vllm and not given.get("judge_url") and (given.get("judge_model") or given.get("judge_key_variable")):
        raise ConfigError("the one model of --teacher-engine vllm is the judge as well; another needs --judge-url")
    name = teacher = given["teacher_model"]
    if vllm and (folder := Path(name).expanduser()).is_dir():  # folders of different models may share a name
        name = folder.resolve().name
        teacher = f"{name}@{fingerprint(models.resolve(str(folder)))[:12]}"
    if "rows" in stages:
        require_free(given["out"] / DATASET)
    settings = BuildSettings(
        domain=load_domain(given["domain"]),
        prompts=load_prompts(given["prompts"]),
        teacher=teacher,
        judge=None
        if given.get("no_judge")
        else given.get("judge_model") or (name if given.get("judge_url") else teacher),
        seed=given["seed"],
        queries_per_persona=given.get("queries_per_persona", 2),
        retries=given["retries"],
        reply_sampling=Sampling(
            temperature=given.get("temperature", REPLY_SAMPLING.temperature),
            top_p=REPLY_SAMPLING.top_p,
            max_tokens=given.get("max_tokens", REPLY_SAMPLING.max_tokens),
        ),
    )
    endpoint = Endpoint(
        given["teacher_url"] or "", given["in_flight"], given["timeout"], given["attempts"], given["key_variable"]
    )
    judge, judge_url = None, given.get("judge_url")
    if judge_url or given.get("judge_key_variable"):
        judge = dataclasses.replace(endpoint, url=judge_url or endpoint.url, role="judge")
        shared = not vllm and judge.same_server(endpoint)
        mine = given.get("judge_key_variable") or (endpoint.key_variable if shared else None)
        judge = dataclasses.replace(judge, key_variable=mine)
    limit, count = given["limit"], given.get("personas", 0)
    return Job(
        settings=settings,
        out=given["out"],
        stages=stages,
        personas=min(count, limit) if limit else count,
        endpoint=_in_process(given) if vllm else endpoint,
        judge_endpoint=judge,
        choice=_choice(given.get("personas_from"), given.get("persona_hub")),
        prices=Prices(given["price_in"], given["price_out"]),
        limits=Limits(given["budget_tokens"], given["budget_money"]),
        limit=limit,
    )


def _in_process(given: dict[str, Any]) -> "InProcess":
    from alignvec.data.teacher.batched import BatchEngine, InProcess

    def start() -> BatchEngine:
        from alignvec.evaluate.bulk.in_process import vllm_answers

        return vllm_answers(given["teacher_model"])

    return InProcess(start, given["in_flight"])


def _choice(file: Path | None, hub: str | None) -> "PersonaChoice | None":
    from alignvec.data.schema import PersonaSource
    from alignvec.data.synthesis.job import PersonaChoice
    from alignvec.data.synthesis.personas import PERSONA_HUB_LICENCE, persona_hub_texts, persona_texts
    from alignvec.errors import ConfigError

    if file is not None and hub is not None:
        raise ConfigError("--personas-from and --persona-hub both name personas; use one")
    if file is not None:
        return PersonaChoice(lambda: persona_texts(file), PersonaSource(kind="file", name=file.name), by_keyword=False)
    if hub is not None:
        source = PersonaSource(kind="persona-hub", name=hub, licence=PERSONA_HUB_LICENCE)
        return PersonaChoice(lambda: persona_hub_texts(hub), source, by_keyword=True)
    return None


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
