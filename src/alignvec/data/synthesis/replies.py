"""Replies at every level to a query, each checked by gates and by a judge that does not know the level asked for."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable

from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.gates import REPLY_GATES, first_fault
from alignvec.data.publish.split import split_of
from alignvec.data.schema import PreferenceRow, Prompts, Provenance
from alignvec.data.synthesis.attempts import Attempts, Fault, attempt
from alignvec.data.synthesis.records import Query, Rejected
from alignvec.data.synthesis.settings import JUDGE_SAMPLING
from alignvec.data.synthesis.workplace import URGENCY, Workplace
from alignvec.data.teacher.ordered import ordered
from alignvec.data.teacher.request import Answer, Request, derived_seed
from alignvec.errors import TeacherError

LEVEL_GATE = "level"
HOPELESS = 20
"""Queries that may fail from the start before a run stops."""
FEW_WORDS = 10
NEGATED = re.compile(r" (?:not|no|nor|neither|never|isn t|nicht|kein|pas|ni) ")


async def rows_of(work: Workplace, queries: AsyncIterator[Query]) -> AsyncIterator[PreferenceRow]:
    """A row for every query whose replies all pass; a query with a level that fails is rejected as a whole."""

    async def reply(query: Query) -> tuple[Query, dict[str, Attempts]]:
        levels = work.settings.domain.levels
        done = await asyncio.gather(*(_reply(work, query, level) for level in levels), return_exceptions=True)
        for one in done:  # raised only when all are finished: what was asked for is paid for
            if isinstance(one, BaseException):
                raise one
        return query, {level: one for level, one in zip(levels, done, strict=True) if isinstance(one, Attempts)}

    made = failed = 0
    async for query, attempts in ordered(queries, reply, window=work.window):
        for one in attempts.values():
            for rejected in one.rejected:
                work.reject(rejected)
        if fault := _row_fault(attempts):
            gate, reason = fault
            work.reject(Rejected(stage="row", id=query.id, gate=gate, reason=reason, text=query.text, final=True))
            failed += 1
            if not made and failed >= HOPELESS:
                raise TeacherError(
                    f"none of the first {failed} queries has become a row, so no more was asked for (the last: "
                    f"{reason}); mend the domain, the prompts or the choice of teacher and judge"
                )
        else:
            made += 1
            yield _row(work, query, attempts)


def verdict(answer: Answer, levels: Iterable[str]) -> str | None:
    """The level that a judge's answer names; None if it names none or several, negates, or was cut off.

    A first line that is a level's name counts, whatever follows; else a whole answer of a few words with one name in
    it. Case, punctuation, and `-`, `_` and spaces within a name do not matter.
    """
    plain = {_plain(level): level for level in levels}
    text = re.sub(r"(?s)^.*</think>", "", answer.text).strip()
    if first := plain.get(_plain(text.split("\n")[0])):
        return first
    words = f" {_plain(text)} "
    if answer.finish_reason == "length" or len(words.split()) > FEW_WORDS or NEGATED.search(words):
        return None
    named = []
    for name in sorted(plain, key=len, reverse=True):  # a name that holds another comes first
        if f" {name} " in words:
            named.append(plain[name])
            words = words.replace(f" {name} ", " | ")
    return named[0] if len(named) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


async def _reply(work: Workplace, query: Query, level: str) -> Attempts:
    settings = work.settings
    domain = settings.domain
    messages = settings.prompts.reply.messages(
        description=domain.description,
        language=domain.language,
        persona=query.persona.text,
        query=query.text,
        instruction=domain.levels[level].instruction,
        length=domain.length(level, query.id, settings.seed),
    )

    async def ask(number: int) -> Answer:
        return await work.write("reply", query.id, messages, settings.reply_sampling, number, level)

    async def fault_of(text: str) -> Fault | None:
        candidate = Candidate(text, domain, level, query.text, settings.prompts.reply.pieces)
        found = first_fault(candidate, REPLY_GATES)
        return found or await _level_fault(work, query, level, text)

    return await attempt("reply", query.id, ask, fault_of, retries=settings.retries, level=level)


async def _level_fault(work: Workplace, query: Query, level: str, text: str) -> Fault | None:
    settings = work.settings
    if work.judge is None or settings.judge is None:
        return None
    levels = settings.domain.levels
    messages = settings.prompts.judge.messages(
        description=settings.domain.description,
        language=settings.domain.language,
        levels="\n".join(f"{name}: {found.instruction}" for name, found in levels.items()),
        names=", ".join(levels),
        query=query.text,
        reply=text,
    )
    request = Request(
        model=settings.judge,
        messages=messages,
        temperature=JUDGE_SAMPLING.temperature,
        top_p=JUDGE_SAMPLING.top_p,
        max_tokens=JUDGE_SAMPLING.max_tokens,
        seed=derived_seed(settings.seed, "judge"),
    )
    said = await work.judge.ask(request, (URGENCY["judge"], query.id))
    found = verdict(said, levels)
    if found == level:
        return None
    return (
        LEVEL_GATE,
        f"the judge takes it for {found}" if found else f"the judge names no single level ({said.text[:60]!r})",
    )


def _row_fault(attempts: dict[str, Attempts]) -> Fault | None:
    failed = [level for level, one in attempts.items() if one.answer is None]
    if failed:
        last = {level: attempts[level].rejected[-1] for level in failed}
        why = ", ".join(f"{level} ({one.gate}: {one.reason})" for level, one in last.items())
        return "reply", f"no reply passed at {why}"
    texts = [one.text for one in attempts.values()]
    if len(set(texts)) < len(texts):
        return "same-reply", "two levels have the same reply"
    return None


def _row(work: Workplace, query: Query, attempts: dict[str, Attempts]) -> PreferenceRow:
    settings = work.settings
    times = [one.answer.time for one in attempts.values() if one.answer is not None]
    return PreferenceRow(
        id=query.id,
        split=split_of(query.persona.text),
        domain=settings.domain.name,
        topic=query.topic,
        persona=query.persona.text,
        query=query.text,
        responses={level: one.text for level, one in attempts.items()},
        provenance=Provenance(
            persona=query.persona.source,
            prompts=Prompts(
                persona=query.persona.prompt,
                query=query.prompt,
                reply=settings.prompts.reply.reference,
                judge=settings.prompts.judge.reference if settings.judge else None,
            ),
            teacher=settings.teacher,
            judge=settings.judge,
            sampling=settings.reply_sampling,
            seed=settings.seed,
            attempts={level: one.asked for level, one in attempts.items()},
            time=max(times),
        ),
    )
