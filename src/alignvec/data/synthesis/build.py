"""Personas, queries and replies as one stream; killed at any point, the same build goes on with the answers it has."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel

from alignvec.data.schema import SPLITS, PreferenceRow
from alignvec.data.synthesis.job import Job, Progress, Stage
from alignvec.data.synthesis.outputs import Outputs, records_in
from alignvec.data.synthesis.personas import chosen, invented
from alignvec.data.synthesis.plan import keep_plan
from alignvec.data.synthesis.queries import queries_of
from alignvec.data.synthesis.records import STAGE_OF, Persona, Query, Rejected, read_records
from alignvec.data.synthesis.replies import rows_of
from alignvec.data.synthesis.report import BuildReport, Spending, Tally
from alignvec.data.synthesis.settings import Expected, expected
from alignvec.data.synthesis.workplace import Workplace
from alignvec.data.teacher.answering import Answering
from alignvec.data.teacher.batched import BatchedTeacher, InProcess
from alignvec.data.teacher.budget import Budget
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.client import Teacher
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.errors import BudgetError, DataError, TeacherError
from alignvec.files import held, write_text

TICK = 0.5
"""Seconds between looks at the progress while nothing is finished."""
Made = TypeVar("Made", bound=BaseModel)


def estimate(job: Job) -> Expected:
    """What a job will ask for, from its settings and from what is in its folder.

    Raises:
        DataError: if the file of given personas cannot be read.
    """
    personas = job.personas
    if "personas" not in job.stages:
        personas = min(records_in(job.out / "personas.jsonl"), job.limit or sys.maxsize)
    elif job.choice is not None and job.choice.source.kind == "file":
        personas = min(personas, sum(1 for _ in job.choice.texts()))
    queries = personas * job.settings.queries_per_persona
    if job.stages == ("rows",):
        queries = min(records_in(job.out / "queries.jsonl"), job.limit or sys.maxsize)
    kept, path = 0, job.out / "answers.sqlite"
    if path.exists():
        with AnswerCache(path) as cache:
            kept = len(cache)
    asked = expected(job.settings, job.stages, personas, queries, invented=job.choice is None)
    return asked._replace(kept=kept)


def build(
    job: Job,
    watch: Callable[[Progress], None] = lambda _: None,
    written: Callable[[BuildReport], None] = lambda _: None,
) -> BuildReport:
    """Run a job; its files are in `job.out` when it returns.

    Args:
        job: what to do.
        watch: told of progress.
        written: told of the report once the files are written, even if an error is raised then.

    Raises:
        DataError: if the folder holds another build, is in use, a step's input is missing, or nothing came out.
        TeacherError: if the teacher fails; what is finished is written first.
        BudgetError: if the budget is used up; what is finished is written first.
    """
    with held(job.out):
        keep_plan(job.out, job.settings, job.stages, job.choice.source if job.choice else None)
        before = {stage: records_in(job.out / f"{stage}.jsonl") for stage in job.stages}
        outputs = Outputs(job.out, job.stages)
        try:
            report, stop = asyncio.run(_run(job, outputs, watch, before))
            for name in outputs.put_in_place(longer_only=stop is not None):
                report.notes.append(f"a file had other records, edited by hand perhaps: it is kept as {name}")
            write_text(job.out / "report.json", report.model_dump_json(indent=1) + "\n")
            written(report)
        finally:
            outputs.drop()
    if stop is not None:
        raise stop
    last = job.stages[-1]
    if not report.made(last):
        raise DataError(
            f"no {last} came out; {job.out / 'rejected.jsonl'} has every text with the reason it was rejected"
        )
    return report


async def _run(
    job: Job, outputs: Outputs, watch: Callable[[Progress], None], before: dict[Stage, int]
) -> tuple[BuildReport, BudgetError | TeacherError | None]:
    started, tally = time.monotonic(), Tally()
    stop: BudgetError | TeacherError | None = None

    def reject(rejected: Rejected) -> None:
        tally.reject(rejected)
        outputs.reject(rejected)

    for rejected in _of_other_stages(job):
        reject(rejected)
    async with AsyncExitStack() as stack:
        cache = stack.enter_context(AnswerCache(job.out / "answers.sqlite"))
        budget = Budget(job.prices, job.limits, cache.tokens())
        endpoints: list[Answering] = [await stack.enter_async_context(_opened(job.endpoint, cache, budget))]
        if job.judge_endpoint is not None:
            endpoints.append(await stack.enter_async_context(Teacher(job.judge_endpoint, cache, budget)))
        judge = endpoints[-1] if job.settings.judge else None
        work = Workplace(job.settings, endpoints[0], judge, 2 * job.endpoint.in_flight, reject)

        def progress() -> Progress:
            return Progress(
                made=dict(tally.made),
                answers=sum(one.requests for one in endpoints),
                cached=sum(one.cached for one in endpoints),
                tokens=budget.prompt_tokens + budget.completion_tokens,
                money=budget.money,
                seconds=time.monotonic() - started,
                held_back=max(one.held_back for one in endpoints),
            )

        async def tick() -> None:
            while True:
                await asyncio.sleep(TICK)
                watch(progress())

        async def counted(stage: Stage, records: AsyncIterator[Made]) -> AsyncIterator[Made]:
            async for record in records:
                tally.made[stage] += 1
                if stage in job.stages:
                    outputs.write(stage, record)
                if isinstance(record, PreferenceRow):
                    tally.splits[record.split] += 1
                watch(progress())
                yield record

        ticking = asyncio.create_task(tick())
        try:
            await _drain(job, work, counted)
        except (BudgetError, TeacherError) as error:
            stop = error
        finally:
            ticking.cancel()
        done = progress()
        spending = Spending(
            answers=done.answers,
            cached=done.cached,
            retries=dict(sum((one.retries for one in endpoints), Counter[str]())),
            prompt_tokens=budget.prompt_tokens,
            completion_tokens=budget.completion_tokens,
            money=budget.money,
            seconds=round(done.seconds, 3),
        )
    return _report(job, tally, spending, stop, before), stop


def _opened(place: Endpoint | InProcess, cache: AnswerCache, budget: Budget) -> Answering:
    return Teacher(place, cache, budget) if isinstance(place, Endpoint) else BatchedTeacher(place, cache, budget)


async def _drain(job: Job, work: Workplace, counted: Callable[..., AsyncIterator[Any]]) -> None:
    """Run the stages one behind the other, each working on what the one before it has made so far."""
    records: AsyncIterator[Any]
    if "personas" in job.stages:
        records = counted("personas", _personas(job, work))
    elif "queries" in job.stages:
        records = counted("personas", _read(job, "personas", Persona))
    if "queries" in job.stages:
        records = counted("queries", queries_of(work, records))
    elif "rows" in job.stages:
        records = counted("queries", _read(job, "queries", Query))
    if "rows" in job.stages:
        records = counted("rows", rows_of(work, records))
    async for _ in records:
        pass


def _personas(job: Job, work: Workplace) -> AsyncIterator[Persona]:
    if job.choice is None:
        return invented(work, job.personas)
    return chosen(work, job.personas, job.choice.texts(), job.choice.source, by_keyword=job.choice.by_keyword)


async def _read(job: Job, stage: Stage, kind: type[Made]) -> AsyncIterator[Made]:
    made_by = f"`alignvec data {stage} --out {job.out}`"
    for record in islice(read_records(job.out / f"{stage}.jsonl", kind, made_by=made_by), job.limit):
        yield record


def _of_other_stages(job: Job) -> Iterator[Rejected]:
    """What the steps that are not run now have rejected before."""
    path = job.out / "rejected.jsonl"
    kept = {kind for kind, stage in STAGE_OF.items() if stage not in job.stages}
    if kept and path.exists():
        records = read_records(path, Rejected, made_by="a build", may_be_empty=True)
        return (record for record in records if record.stage in kept)
    return iter(())


def _report(
    job: Job, tally: Tally, spending: Spending, stop: Exception | None, before: dict[Stage, int]
) -> BuildReport:
    notes = []
    made = tally.made["personas"]
    if "personas" in job.stages and stop is None and made < job.personas:
        by_keyword = job.choice is not None and job.choice.by_keyword
        why = "the others have no keyword of the domain" if by_keyword else "there are no more"
        notes.append(f"{made} personas of {job.personas}: {why}, or did not pass the gates (rejected.jsonl)")
    for stage, count in before.items():
        if stop is None and tally.made[stage] < count:
            notes.append(
                f"{stage}.jsonl had {count} records and has {tally.made[stage]} now; the answers are kept, "
                "so asking for as much as before brings them back"
            )
    empty = [split for split in SPLITS if not tally.splits[split]]
    if empty and tally.made["rows"]:
        notes.append(f"no {' and no '.join(empty)} rows; `alignvec data split --ratios` or --salt deals them anew")
    levels = job.settings.domain.levels if "rows" in job.stages else ()
    return BuildReport(
        domain=job.settings.domain.name,
        personas=tally.counts("personas") if "rows" not in job.stages or "queries" in job.stages else None,
        queries=tally.counts("queries") if job.stages != ("personas",) else None,
        replies={level: tally.counts("replies", level) for level in levels},
        rows=tally.counts("rows") if "rows" in job.stages else None,
        splits={split: tally.splits[split] for split in SPLITS},
        spending=spending,
        stopped=None if stop is None else str(stop),
        notes=notes,
    )
