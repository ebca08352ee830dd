"""Preference sets that users already have, (prompt, chosen, rejected) in some format, as rows of two levels."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from alignvec.data.foreign.formats import (
    FORMATS,
    FormatName,
    Pair,
    Reading,
    Unusable,
    check_columns,
    check_mapping,
    detect,
    rename,
)
from alignvec.data.foreign.records import BrokenLine, Record, records
from alignvec.data.publish.files import RowWriter, row_file
from alignvec.data.publish.split import split_of
from alignvec.data.schema import SPLITS, PersonaSource, PreferenceRow, Provenance, Split
from alignvec.errors import DataError

LEVELS = ("rejected", "chosen")
"""Levels of an imported row, lowest first."""
ORDER = ">".join(reversed(LEVELS))
"""Preference order that trains what the set prefers."""
HEAD = 100
"""So many lines without a record at its beginning, and a file is taken for no JSON lines."""


class Imported(BaseModel):
    """What became of the records of a file.

    Attributes:
        format: how its records were read.
        read: records that were read; the sum of `rows` and of all counts in `rejected`.
        rows: rows that were written.
        rejected: reason to number of records that made no row.
        notes: something to know about written rows to their number.
        personas: distinct askers; who opens with the same words is one.
        splits: rows of each split.
        order: preference order to put in a recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    format: FormatName
    read: int
    rows: int
    rejected: Mapping[str, int]
    notes: Mapping[str, int]
    personas: int
    splits: Mapping[Split, int]
    order: str = ORDER


def import_pairs(
    file: Path,
    out: Path,
    rejected: Path,
    *,
    format: FormatName | Literal["auto"] = "auto",
    columns: Mapping[str, str] | None = None,
    domain: str = "imported",
    reading: Reading | None = None,
    limit: int | None = None,
    licence: str | None = None,
) -> Imported:
    """Write rows with the levels `rejected` and `chosen`, and what made none, with the reason, to a second file.

    A broken line of a `.jsonl` file makes none: it is counted, and kept with its line number and text.

    A set without personas gets one a distinct opening of the conversation, so that splits share no question.

    Args:
        file: the set; its suffix says how it is read.
        out: the rows, as JSON lines.
        rejected: the rest: number of the record, reason, record (of a broken line: line, reason, detail, text).
        format: of the records; `auto` tells it from the first one.
        columns: name that the format has to the column that the file has.
        domain: domain of the rows.
        reading: choices that a format leaves open.
        limit: read this many records, the first ones.
        licence: of the set, for the rows' provenance.

    Raises:
        DataError: if the file is damaged, its columns do not fit, or no record makes a row.
        StorageError: if a file cannot be written.
    """
    if len({path.resolve() for path in (file, out, rejected)}) < 3:
        raise DataError(f"{file}, {out} and {rejected} must be three files; name others with --out and --rejected")
    reading, columns = reading or Reading(), columns or {}
    with closing(records(file)) as found:
        broken, first = _head(file, found)
        check_mapping(first, columns, str(file))
        first_renamed = rename(first, columns)
        name = detect(first_renamed, str(file)) if format == "auto" else format
        check_columns(name, first_renamed, reading, str(file))
        count, reasons, notes, splits = 0, Counter[str](), Counter[str](), Counter[Split]()
        ids: set[str] = set()
        personas: set[str] = set()
        source = PersonaSource(kind="import", name=file.name, licence=licence)
        with row_file(rejected) as refuse, row_file(out) as accept:
            for count, record in enumerate(islice(chain(broken, [first], found), limit), start=1):
                if isinstance(record, BrokenLine):
                    reasons[record.reason] += 1
                    refuse.write_line(_broken(count, record))
                    continue
                try:
                    pair = FORMATS[name](rename(record, columns), reading)
                    row = _row(pair, domain, source)
                    if row.id in ids:
                        raise Unusable("duplicate")
                except Unusable as unusable:
                    reasons[str(unusable)] += 1
                    _refuse(refuse, count, str(unusable), record)
                    continue
                ids.add(row.id)
                personas.add(row.persona)
                splits[row.split] += 1
                notes.update([pair.note] if pair.note else [])
                accept.write(row)
            if not ids:
                told = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
                raise DataError(f"{file}: none of its {count} records makes a row ({told}); check --format and --map")
    return Imported(
        file=file.name,
        format=name,
        read=count,
        rows=len(ids),
        rejected=dict(reasons.most_common()),
        notes=dict(notes),
        personas=len(personas),
        splits={split: splits[split] for split in SPLITS},
    )


def _head(file: Path, found: Iterator[Record | BrokenLine]) -> tuple[list[BrokenLine], Record]:
    """The first record, and the lines before it that hold none."""
    broken: list[BrokenLine] = []
    for one in islice(found, HEAD):
        if not isinstance(one, BrokenLine):
            return broken, one
        broken.append(one)
    raise broken[0].error(file)


def _row(pair: Pair, domain: str, source: PersonaSource) -> PreferenceRow:
    if pair.chosen == pair.rejected:
        raise Unusable("chosen and rejected are the same")
    try:
        persona = f"asker of {_hash(' '.join(pair.opening.casefold().split()))}"
        return PreferenceRow(
            id=f"{domain}-{_hash(json.dumps([pair.prompt, pair.chosen, pair.rejected], ensure_ascii=False))}",
            split=split_of(persona),
            domain=domain,
            topic="unknown",
            persona=persona,
            query=pair.prompt,
            responses={"rejected": pair.rejected, "chosen": pair.chosen},
            provenance=Provenance(persona=source),
        )
    except (UnicodeEncodeError, ValidationError):
        raise Unusable("not valid Unicode") from None


def _refuse(writer: RowWriter, number: int, reason: str, record: Mapping[str, Any]) -> None:
    writer.write_line(json.dumps({"number": number, "reason": reason, "record": record}, default=str))


def _broken(number: int, line: BrokenLine) -> str:
    place = {"number": number, "line": line.number, "reason": line.reason}
    return json.dumps({**place, **({"detail": line.detail} if line.detail else {}), "text": line.text})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
