"""Reading preference data; every complaint names the file and the line."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from alignvec.data.lines import parse_line
from alignvec.data.safety import DOMAIN, SAFETY, SafetyRow, is_safety
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError
from alignvec.shipped import ROOT

SHIPPED = ROOT / "data" / "levels"
"""Folder of the preference data that comes with the project."""


def shipped_file(domain: str) -> Path:
    """Path of the shipped data of a domain: medical, legal, financial, general (test only), or safety.

    Raises:
        DataError: if no data of that domain is shipped.
    """
    path = SAFETY if domain == DOMAIN else SHIPPED / f"{domain}.jsonl"
    if not path.is_file():
        have = ", ".join([*sorted(p.stem for p in SHIPPED.glob("*.jsonl") if p.stem != "ratings"), DOMAIN])
        raise DataError(f"no shipped data for domain {domain!r} (have: {have}); name a file with --data FILE.jsonl")
    return path


def load_rows(
    path: Path, *, split: str | None = None, domain: str | None = None, limit: int | None = None
) -> list[PreferenceRow]:
    """Read rows from a JSON-lines file, checking all of them before any is selected.

    Args:
        path: file with one JSON object a line, in the schema of `PreferenceRow`, or of `SafetyRow`.
        split: keep only rows of this split (`train`, `validation` or `test`).
        domain: keep only rows of this domain.
        limit: keep at most this many rows, the first ones.

    Raises:
        DataError: if the file cannot be read, a line is malformed, an id is used twice, a persona is in two
            splits, or nothing is left.
    """
    rows = list(numbered_rows(path, "--data"))
    _check_persona_splits(path, rows)
    chosen = [r for _, r in rows if split in (None, r.split) and domain in (None, r.domain)]
    if not chosen:
        splits = ", ".join(sorted({r.split for _, r in rows})) or "none"
        wanted = " ".join(f"{k}={v}" for k, v in (("split", split), ("domain", domain)) if v)
        raise DataError(f"{path}: no rows with {wanted or 'any content'} (splits there: {splits}); choose another")
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit} leaves no rows; use 1 or more")
    return chosen[:limit]


def load_files(paths: Sequence[Path], *, split: str | None = None, limit: int | None = None) -> list[PreferenceRow]:
    """Rows of several files, each named once, one after the other; arguments as for `load_rows`.

    Raises:
        DataError: as `load_rows`; and if two files have a row of the same id, as measurements are kept by it.
    """
    home: dict[str, Path] = {}
    found = []
    for path in dict.fromkeys(paths):
        for row in load_rows(path, split=split, limit=limit):
            if home.setdefault(row.id, path) != path:
                raise DataError(f"{path}: id {row.id!r} is also in {home[row.id]}; give the rows of one file other ids")
            found.append(row)
    return found


def levels_of(rows: Sequence[PreferenceRow]) -> tuple[str, ...]:
    """Levels that the rows have, lowest first: `LEVELS` in their order, other names as in the first row.

    Raises:
        DataError: if a row has other levels than the first.
    """
    first = tuple(rows[0].responses)
    for row in rows:
        if set(row.responses) != set(first):
            raise DataError(
                f"row {row.id} has levels {', '.join(row.responses)} but row {rows[0].id} has {', '.join(first)}; "
                "every row of a file needs the same levels"
            )
    return tuple(v for v in LEVELS if v in first) + tuple(v for v in first if v not in LEVELS)


def numbered_rows(path: Path, place: str = "the path") -> Iterator[tuple[int, PreferenceRow]]:
    """Yield the rows of a JSON-lines file with the numbers of their lines, in memory that does not grow with the texts.

    Args:
        path: the file; a byte-order mark at its beginning is skipped.
        place: what to check if there is no such file.

    Raises:
        DataError: if the file cannot be read or has no rows, a line is malformed, or an id is used twice.
    """
    seen: dict[str, int] = {}
    if path.is_dir():
        inside = path / "rows.jsonl"
        raise DataError(f"{path} is a folder; name {inside if inside.is_file() else 'a file of rows in it (.jsonl)'}")
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = _parse(path, number, line)
                if row.id in seen:
                    raise DataError(f"{path}:{number}: id {row.id!r} was used on line {seen[row.id]}; make ids unique")
                seen[row.id] = number
                yield number, row
    except FileNotFoundError:
        raise DataError(f"no data file at {path}; check {place}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; it must be UTF-8 text, one JSON object a line") from None
    if not seen:
        raise DataError(f"{path}: the file is empty; it needs one JSON object a line")


def _parse(path: Path, number: int, line: str) -> PreferenceRow:
    try:
        return PreferenceRow.model_validate_json(line)
    except ValidationError as error:
        if is_safety(line):
            return parse_line(path, number, line, SafetyRow).preference()
        if _is_pair(line):
            raise DataError(
                f"{path}:{number}: a pair of replies, chosen and rejected, is no row; "
                f"make rows of the file with `alignvec data import {path} --out rows.jsonl`"
            ) from None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        way = "mend the line" if first["type"] == "json_invalid" else "see data/README.md for the schema"
        raise DataError(f"{path}:{number}: {where}: {_cause(first['msg'])}; {way}") from None


def _cause(message: str) -> str:
    return message.replace(" line 1", "").removeprefix("Value error, ")


def _is_pair(line: str) -> bool:
    try:
        record = json.loads(line)
    except (RecursionError, ValueError):
        return False
    return isinstance(record, dict) and {"chosen", "rejected"} <= record.keys() and "responses" not in record


def _check_persona_splits(path: Path, rows: Iterable[tuple[int, PreferenceRow]]) -> None:
    home: dict[tuple[str, str], tuple[str, int]] = {}
    for number, row in rows:
        split, line = home.setdefault((row.domain, row.persona), (row.split, number))
        if split != row.split:
            raise DataError(
                f"{path}:{number}: this persona is in split {row.split!r} here and {split!r} on line {line}; "
                "splits are by persona, so that no one tested was trained on"
            )
