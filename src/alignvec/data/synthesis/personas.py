"""Personas: invented by the teacher for the cells of a grid, or chosen from a file or PersonaHub."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from alignvec.data.domain import Domain
from alignvec.data.gates.candidate import Candidate
from alignvec.data.gates.duplicates import NearDuplicates
from alignvec.data.gates.gates import PERSONA_GATES, first_fault
from alignvec.data.schema import PersonaSource
from alignvec.data.synthesis.attempts import Attempts, Fault, attempt, one_line
from alignvec.data.synthesis.grid import cells
from alignvec.data.synthesis.records import Persona, Rejected
from alignvec.data.synthesis.settings import PERSONA_SAMPLING
from alignvec.data.synthesis.workplace import Workplace
from alignvec.data.teacher.ordered import ordered
from alignvec.data.teacher.request import Answer
from alignvec.errors import DataError

PERSONA_HUB = "proj-persona/PersonaHub"
PERSONA_HUB_LICENCE = "CC-BY-NC-SA-4.0"


async def invented(work: Workplace, count: int) -> AsyncIterator[Persona]:
    """CreatePersona: `count` personas that spread over the domain's grid; cells whose persona fails are replaced.

    Ends with fewer if three times as many cells did not suffice.
    """
    settings = work.settings
    domain, prompt = settings.domain, settings.prompts.persona
    source = PersonaSource(kind="created", name=settings.teacher)
    numbered = enumerate(cells(domain.personas, settings.seed))

    async def invent(item: tuple[int, dict[str, str]]) -> tuple[int, dict[str, str], Attempts]:
        number, cell = item
        name = persona_id(domain, number)
        messages = prompt.messages(
            description=domain.description,
            language=domain.language,
            attributes="\n".join(f"- {attribute}: {value}" for attribute, value in cell.items()),
        )

        async def ask(attempt_number: int) -> Answer:
            return await work.write("persona", name, messages, PERSONA_SAMPLING, attempt_number)

        async def fault_of(text: str) -> Fault | None:
            return first_fault(Candidate(text, domain, instructions=prompt.pieces), PERSONA_GATES)

        return number, cell, await attempt("persona", name, ask, fault_of, retries=settings.retries, clean=one_line)

    accepted = begun = 0
    with NearDuplicates() as known:
        while accepted < count and begun < 3 * count:
            missing = min(count - accepted, 3 * count - begun)
            begun += missing
            async for number, cell, attempts in ordered(islice(numbered, missing), invent, window=work.window):
                name = persona_id(domain, number)
                for rejected in attempts.rejected:
                    work.reject(rejected)
                if attempts.answer is None or _is_duplicate(work, known, name, attempts.text):
                    continue
                accepted += 1
                yield Persona(
                    id=name, number=number, text=attempts.text, source=source, prompt=prompt.reference, attributes=cell
                )


async def chosen(
    work: Workplace, count: int, texts: Iterator[str], source: PersonaSource, *, by_keyword: bool
) -> AsyncIterator[Persona]:
    """The first `count` of given personas that pass the gates and are no near-duplicates.

    Args:
        work: settings and where rejected ones go.
        count: how many.
        texts: the personas.
        source: where they come from.
        by_keyword: whether a persona must have one of the domain's keywords (others are passed over silently: they
            are of other domains).
    """
    domain = work.settings.domain
    wanted = _keyword_pattern(domain) if by_keyword else None
    accepted = 0
    with NearDuplicates() as known:
        for number, text in enumerate(map(one_line, texts)):
            if accepted >= count:
                return
            if wanted is not None and not wanted.search(text):
                continue
            name = persona_id(domain, number)
            if fault := first_fault(Candidate(text, domain), PERSONA_GATES):
                gate, reason = fault
                work.reject(Rejected(stage="persona", id=name, gate=gate, reason=reason, text=text, final=True))
            elif not _is_duplicate(work, known, name, text):
                accepted += 1
                yield Persona(id=name, number=number, text=text, source=source)


def persona_id(domain: Domain, number: int) -> str:
    """Id of the n-th persona of a domain."""
    return f"{domain.name}-{number:05d}"


def persona_texts(path: Path) -> Iterator[str]:
    """Personas of a file, streamed: a text file with one a line, or JSON lines with a field `persona` (or `text`).

    Raises:
        DataError: if the file is of another kind, cannot be read, is empty, or a line has no persona.
    """
    kind = path.suffix.lower()
    if kind not in ("", ".txt", ".jsonl"):
        raise DataError(
            f"{path}: {kind} files are not read as personas; use .txt (one a line) or .jsonl (field persona)"
        )
    found = False
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    found = True
                    yield _persona(json.loads(line), f"{path}:{number}") if kind == ".jsonl" else line
    except FileNotFoundError:
        raise DataError(f"no personas at {path}; check --personas-from") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check --personas-from") from None
    except ValueError as error:
        raise DataError(f"cannot read {path}: {error}; it must be UTF-8 text, or JSON lines if named .jsonl") from None
    if not found:
        raise DataError(f"{path} is empty; it needs one persona a line")


def persona_hub_texts(place: str) -> Iterator[str]:
    """Personas in PersonaHub's schema, streamed through `datasets`: a hub id, or a local folder or file.

    Raises:
        DataError: if it cannot be loaded, or has no column `persona`.
    """
    import datasets

    try:
        if Path(place).is_file():
            kind = {".parquet": "parquet", ".csv": "csv"}.get(Path(place).suffix, "json")
            rows = datasets.load_dataset(kind, data_files=place, split="train", streaming=True)
        elif place == PERSONA_HUB:
            rows = datasets.load_dataset(place, "persona", split="train", streaming=True)
        else:
            rows = datasets.load_dataset(place, split="train", streaming=True)
        for number, row in enumerate(rows, start=1):
            yield _persona(row, f"{place}, row {number}")
    except DataError:
        raise
    except Exception as error:  # datasets raises errors of many libraries
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"cannot load personas from {place!r} ({type(error).__name__}: {said}); "
            "name a hub id that can be reached, or a local copy"
        ) from error


def _persona(row: Any, where: str) -> str:
    value = row.get("persona", row.get("text")) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: no field 'persona' with a text; each persona needs one")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        raise DataError(f"{where}: the persona has half a letter (an unpaired surrogate); mend the file")
    return value


def _keyword_pattern(domain: Domain) -> re.Pattern[str]:
    if not domain.keywords:
        raise DataError(f"domain {domain.name!r} has no keywords to choose personas by; add `keywords` to its file")
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, domain.keywords))})s?\b", re.IGNORECASE)


def _is_duplicate(work: Workplace, known: NearDuplicates, name: str, text: str) -> bool:
    if (earlier := known.find(text)) is None:
        known.add(name, text)
        return False
    reason = f"much like persona {earlier}"
    work.reject(Rejected(stage="persona", id=name, gate="near-duplicate", reason=reason, text=text, final=True))
    return True
