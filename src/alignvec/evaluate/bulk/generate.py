"""A run: every prompt replied to at every setting, block by block; killed at any point, the same run goes on.

Answers are kept one by one in `answers.sqlite` before they are used, and a shard is written when all of its answers are
there; whole shards are passed over by the next run. What is held in memory is a window of prompts and one shard.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from alignvec.data.teacher.answering import Answering, NoAnswerError
from alignvec.data.teacher.budget import Budget, Limits, Prices
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.ordered import ordered
from alignvec.data.teacher.request import Answer, Request, derived_seed
from alignvec.evaluate.bulk.endpoint import named_model
from alignvec.evaluate.bulk.plan import Plan, keep_plan
from alignvec.evaluate.bulk.prompts import Prompt, PromptFile
from alignvec.evaluate.bulk.shards import Generated, replies_in, shard_path, write_shard
from alignvec.files import held, storage_errors
from alignvec.steer.knobs import Knobs
from alignvec.vectors.strict import Strict

WINDOW = 1024
"""Fewest prompts in hand at once: enough that one slow answer holds nothing up; twice as many as an engine takes."""
FAILED = "failed.jsonl"
ANSWERS = "answers.sqlite"

Opened = Callable[[AnswerCache, Budget], Answering]
"""Makes whoever answers, of the answers that are kept and what may be spent."""


class Failed(Strict):
    """A reply that is missing, and why."""

    id: str
    knobs: dict[str, float]
    why: str


class Generation(Strict):
    """What a run came to.

    Attributes:
        out: its folder.
        replies: that there should be.
        missing: of these, how many there are not.
        before: replies in shards that were whole before.
        kept: replies from answers that an earlier run had kept.
        answers: that this run has asked for.
        tokens: of those answers.
        retries: cause to the number of attempts that failed of it.
        seconds: of this run.
    """

    out: str
    replies: int
    missing: int
    before: int
    kept: int
    answers: int
    tokens: int
    retries: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class _Asked:
    """A prompt at a setting, and which shard its reply is for."""

    prompt: Prompt
    knobs: Knobs
    shard: Path
    last: bool


def generate(
    plan: Plan,
    prompts: PromptFile,
    out: Path,
    opened: Opened,
    *,
    limits: Limits | None = None,
    advance: Callable[[int, bool], None] = lambda *_: None,
) -> Generation:
    """Generate what is missing of a run.

    Args:
        plan: of the run.
        prompts: those of the plan.
        out: folder of the run.
        opened: makes whoever answers.
        limits: of spending.
        advance: called with the number of replies that are done, and whether they are from an earlier run; first with
            those of whole shards.

    Raises:
        DataError: if the folder holds another run, or is in use.
        TeacherError: if the endpoint fails; the same run goes on later.
        BudgetError: if the budget is used up; a larger one goes on.
    """
    with held(out):
        keep_plan(out, plan)
        with _failures(out) as failures:
            result = asyncio.run(_run(plan, prompts, out, opened, limits or Limits(), failures, advance))
        if not result.missing:  # everything is in the shards
            for suffix in ("", "-wal", "-shm"):
                (out / f"{ANSWERS}{suffix}").unlink(missing_ok=True)
            (out / FAILED).unlink(missing_ok=True)
    return result


def request_of(plan: Plan, prompt: Prompt, knobs: Knobs) -> Request:
    """What is asked for a prompt at a setting: its settings share the prompt's seed, and so the sampling noise.

    Prompts have seeds of their own, as an engine may draw the same noise for all requests of one seed.
    """
    by, sampling = plan.answered_by, plan.sampling
    turned = {name: value for name, value in knobs.items() if value}
    named = {**dict.fromkeys(by.turnable, 0.0), **turned}
    return Request(
        model=named_model(by.named, by.model, turned) if by.named else by.model,
        messages=(("user", prompt.query),),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
        seed=derived_seed(sampling.seed, prompt.id),
        repetition_penalty=sampling.repetition_penalty if sampling.repetition_penalty != 1 else None,
        knobs=None if by.named or _plain(plan) else tuple(sorted(named.items())),
    )


def _plain(plan: Plan) -> bool:
    """Whether nothing is said of knobs: an endpoint that has none is asked for the base alone."""
    return plan.answered_by.engine == "openai" and not plan.answered_by.vectors and not any(plan.settings)


async def _run(
    plan: Plan,
    prompts: PromptFile,
    out: Path,
    opened: Opened,
    limits: Limits,
    failures: TextIO,
    advance: Callable[[int, bool], None],
) -> Generation:
    started, missing, kept, before = time.monotonic(), 0, 0, _whole(plan, out)
    advance(before, True)
    shard: list[Generated] = []
    with AnswerCache(out / ANSWERS) as cache:
        budget = Budget(Prices(), limits, cache.tokens())
        async with opened(cache, budget) as answering:
            number = 0

            async def work(asked: _Asked) -> tuple[_Asked, Answer | NoAnswerError]:
                nonlocal number
                number += 1
                try:
                    request = request_of(plan, asked.prompt, asked.knobs)
                    return asked, await answering.ask(request, (number, ""))
                except NoAnswerError as error:
                    return asked, error

            async for asked, answer in ordered(
                _open(plan, prompts, out), work, window=max(WINDOW, 2 * answering.at_once)
            ):
                if isinstance(answer, Answer):
                    shard.append(_generated(asked, answer))
                else:
                    missing += 1
                    _tell(failures, Failed(id=asked.prompt.id, knobs=dict(asked.knobs), why=str(answer)))
                if asked.last:
                    write_shard(asked.shard, shard)
                    shard = []
                again = kept < answering.cached  # kept answers are found ahead of their turn; their number is right
                kept += again
                advance(1, again)
            return Generation(
                out=str(out),
                replies=plan.replies,
                missing=missing,
                before=before,
                kept=answering.cached,
                answers=answering.requests,
                tokens=budget.prompt_tokens + budget.completion_tokens,
                retries=dict(answering.retries),
                seconds=round(time.monotonic() - started, 3),
            )


def _open(plan: Plan, prompts: PromptFile, out: Path) -> Iterator[_Asked]:
    """What is missing: a block of prompts at one setting after the other, so that engines see long runs of one."""
    for number, block in enumerate(prompts.blocks(plan.shard_size)):
        for setting, knobs in enumerate(plan.settings):
            path = shard_path(out, number, setting)
            if replies_in(path) < len(block):
                for prompt in block:
                    yield _Asked(prompt, knobs, path, last=prompt is block[-1])


def _whole(plan: Plan, out: Path) -> int:
    """Replies in shards that are whole."""
    count = 0
    for number, first in enumerate(range(0, plan.prompts.count, plan.shard_size)):
        size = min(plan.shard_size, plan.prompts.count - first)
        whole = sum(replies_in(shard_path(out, number, setting)) >= size for setting in range(len(plan.settings)))
        count += size * whole
    return count


def _generated(asked: _Asked, answer: Answer) -> Generated:
    prompt = asked.prompt
    return Generated(
        id=prompt.id,
        domain=prompt.domain,
        persona=prompt.persona,
        query=prompt.query,
        knobs=dict(asked.knobs),
        reply=answer.text,
        ended=answer.finish_reason != "length",
        tokens=answer.completion_tokens,
    )


@contextmanager
def _failures(out: Path) -> Iterator[TextIO]:
    """The list of this run's failures; if there are any it is put in place when the run ends, however it ends."""
    part = out / f".{FAILED}.part"
    with storage_errors(part):
        stream = part.open("w", encoding="utf-8")
    try:
        yield stream
    finally:
        with storage_errors(part):
            stream.close()
            if part.stat().st_size:
                part.replace(out / FAILED)
            part.unlink(missing_ok=True)


def _tell(failures: TextIO, failed: Failed) -> None:
    with storage_errors(Path(failures.name)):
        failures.write(failed.model_dump_json() + "\n")
