"""One pass over a file of rows that keeps numbers and hashes, and the texts of a sample only."""

import hashlib
import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignvec.data.confound import word_count
from alignvec.data.load import levels_of
from alignvec.data.publish import readability
from alignvec.data.schema import SPLITS, PreferenceRow, Split
from alignvec.errors import DataError

MISSING = "missing"
"""Name under which rows are counted that do not say."""
SAMPLE = 1000
"""Most rows whose texts are kept, for what cannot be measured without them."""


@dataclass
class Tally:
    """Rows of one domain in one split, with hashes of their personas and topics."""

    rows: int = 0
    personas: set[int] = field(default_factory=set)
    topics: set[int] = field(default_factory=set)


@dataclass
class Measured:
    """What was measured, row by row.

    Attributes:
        levels: lowest first.
        words: level to words of each reply.
        reading_ease: level to Flesch reading ease of each reply; NaN where there is none.
        grade: level to Flesch-Kincaid grade of each reply, likewise.
        personas: hash of each row's persona.
        sample: the rows whose ids hash lowest, `SAMPLE` at most, by hash.
    """

    levels: tuple[str, ...]
    words: dict[str, "array[int]"]
    reading_ease: dict[str, "array[float]"]
    grade: dict[str, "array[float]"]
    personas: "array[int]" = field(default_factory=lambda: array("q"))
    sample: Sequence[PreferenceRow] = ()
    duplicate_queries: int = 0
    duplicate_replies: Counter[str] = field(default_factory=Counter)
    no_provenance: int = 0
    by_part: dict[tuple[str, Split], Tally] = field(default_factory=dict)
    by_origin: dict[str, Counter[str]] = field(default_factory=dict)
    times: tuple[str, str] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.personas)

    def tallies(self) -> list[tuple[tuple[str, Split], Tally]]:
        """Tallies by domain, then by split."""
        return sorted(self.by_part.items(), key=lambda item: (item[0][0], SPLITS.index(item[0][1])))

    def origins(self) -> dict[str, Any]:
        """Number of rows by each kind of origin, most rows first."""
        first, last = self.times or (None, None)
        counts = {kind: dict(counter.most_common()) for kind, counter in self.by_origin.items()}
        return {**counts, "first_time": first, "last_time": last}


ORIGINS = ("personas", "licences", "teachers", "judges", "prompts", "sampling")


def measure(rows: Iterable[PreferenceRow], *, language: str = "en") -> Measured:
    """Measure rows one by one; memory grows by some 300 bytes a row, not with the texts.

    Args:
        rows: one row or more.
        language: ISO 639-1 code; readability is measured for `en` only, as its formulas are for English.

    Raises:
        DataError: if there are no rows, a row has other levels than the first, or a persona is in two splits.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise DataError("there are no rows to describe; build or import some first")
    levels = levels_of([first])
    measured = Measured(
        levels,
        words={level: array("q") for level in levels},
        reading_ease={level: array("d") for level in levels},
        grade={level: array("d") for level in levels},
        by_origin={kind: Counter() for kind in ORIGINS},
    )
    queries: set[int] = set()
    replies: dict[str, set[int]] = {level: set() for level in levels}
    homes: dict[int, Split] = {}
    kept: list[tuple[int, PreferenceRow]] = []
    for row in _chain(first, rows):
        levels_of([first, row])
        persona = _hash(row.persona)
        home = homes.setdefault(_hash(f"{row.domain}\n{row.persona}"), row.split)
        if home != row.split:
            raise DataError(
                f"row {row.id}: its persona is in split {row.split!r} here and {home!r} in another row; "
                "mend it with `alignvec data split`"
            )
        measured.personas.append(persona)
        tally = measured.by_part.setdefault((row.domain, row.split), Tally())
        tally.rows += 1
        tally.personas.add(persona)
        tally.topics.add(_hash(row.topic))
        measured.duplicate_queries += _seen(queries, row.query)
        for level in levels:
            _measure_reply(measured, level, row.responses[level], language)
            measured.duplicate_replies[level] += _seen(replies[level], row.responses[level])
        _count_origin(measured, row)
        _keep(kept, row)
    measured.sample = [row for _, row in sorted(kept, reverse=True, key=lambda item: item[0])]
    return measured


def _chain(first: PreferenceRow, rest: Iterable[PreferenceRow]) -> Iterable[PreferenceRow]:
    yield first
    yield from rest


def _measure_reply(measured: Measured, level: str, text: str, language: str) -> None:
    counts = readability.count(text) if language == "en" else None
    measured.words[level].append(word_count(text))
    measured.reading_ease[level].append(counts.reading_ease if counts else float("nan"))
    measured.grade[level].append(counts.grade if counts else float("nan"))


def _count_origin(measured: Measured, row: PreferenceRow) -> None:
    source = row.provenance
    if source is None:
        measured.no_provenance += 1
        return
    count = measured.by_origin
    count["personas"][f"{source.persona.kind}: {source.persona.name}"] += 1
    count["licences"][source.persona.licence or MISSING] += 1
    count["teachers"][source.teacher or MISSING] += 1
    count["judges"][source.judge or MISSING] += 1
    for step, prompt in source.prompts.model_dump(exclude_none=True).items():
        count["prompts"][f"{step}: {prompt}"] += 1
    if source.sampling:
        settings = source.sampling.model_dump()
        count["sampling"][", ".join(f"{name} {value:g}" for name, value in settings.items())] += 1
    if source.time:
        low, high = measured.times or (source.time, source.time)
        measured.times = min(low, source.time), max(high, source.time)


def _keep(kept: list[tuple[int, PreferenceRow]], row: PreferenceRow) -> None:
    """Keep the rows of the smallest hashes: a heap whose root is the largest kept, as a negative number."""
    entry = (-_hash(row.id), row)
    if len(kept) < SAMPLE:
        heapq.heappush(kept, entry)
    elif entry[0] > kept[0][0]:
        heapq.heapreplace(kept, entry)


def _seen(hashes: set[int], text: str) -> bool:
    before = len(hashes)
    hashes.add(_hash(text))
    return len(hashes) == before


def _hash(text: str) -> int:
    """63 bits of SHA-256: two of 200,000 texts collide with a chance of 2e-9."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
