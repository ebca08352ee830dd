"""Queries: what each persona asks, on topics that rotate through the domain's."""

from collections.abc import AsyncIterator

from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.duplicates import NearDuplicates
from alignvec.data.gates.gates import QUERY_GATES, first_fault
from alignvec.data.synthesis.attempts import Attempts, Fault, attempt, one_line
from alignvec.data.synthesis.grid import cycled
from alignvec.data.synthesis.records import Persona, Query, Rejected
from alignvec.data.synthesis.settings import QUERY_SAMPLING
from alignvec.data.synthesis.workplace import Workplace
from alignvec.data.teacher.ordered import ordered
from alignvec.data.teacher.request import Answer, derived_seed

_Item = tuple[str, str, Persona]


async def queries_of(work: Workplace, personas: AsyncIterator[Persona]) -> AsyncIterator[Query]:
    """`queries_per_persona` queries of every persona; those that fail or repeat an earlier one are rejected."""
    settings = work.settings
    domain, prompt = settings.domain, settings.prompts.query

    async def items() -> AsyncIterator[_Item]:
        per, seed = settings.queries_per_persona, f"{settings.seed}/topics"
        async for persona in personas:
            place = derived_seed(persona.id) if persona.number is None else persona.number
            for number in range(per):
                yield f"{persona.id}-{number}", cycled(domain.topics, seed, place * per + number), persona

    async def write(item: _Item) -> tuple[_Item, Attempts]:
        name, topic, persona = item
        messages = prompt.messages(
            description=domain.description, language=domain.language, persona=persona.text, topic=topic
        )

        async def ask(number: int) -> Answer:
            return await work.write("query", name, messages, QUERY_SAMPLING, number)

        async def fault_of(text: str) -> Fault | None:
            return first_fault(Candidate(text, domain, instructions=prompt.pieces), QUERY_GATES)

        return item, await attempt("query", name, ask, fault_of, retries=settings.retries, clean=one_line)

    with NearDuplicates() as known:
        async for (name, topic, persona), attempts in ordered(items(), write, window=work.window):
            for rejected in attempts.rejected:
                work.reject(rejected)
            if attempts.answer is None:
                continue
            if (earlier := known.find(attempts.text)) is not None:
                reason = f"much like query {earlier}"
                work.reject(
                    Rejected(
                        stage="query", id=name, gate="near-duplicate", reason=reason, text=attempts.text, final=True
                    )
                )
                continue
            known.add(name, attempts.text)
            yield Query(id=name, topic=topic, text=attempts.text, persona=persona, prompt=prompt.reference)
