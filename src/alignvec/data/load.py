"""Reading preference data; every complaint names the file and the line."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError

SHIPPED = Path(__file__).resolve().parents[3] / "data" / "levels"
"""Folder of the preference data that comes with the project."""


def shipped_file(domain: str) -> Path:
    """Path of the shipped data of a domain: medical, legal, financial, or general (test only).

    Raises:
        DataError: if no data of that domain is shipped.
    """
    path = SHIPPED / f"{domain}.jsonl"
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.jsonl") if p.stem != "ratings"))
        raise DataError(
            f"no shipped data for domain {domain!r} (have: {have or 'none'}); name a file with --data FILE.jsonl"
        )
    return path


def load_rows(
    path: Path, *, split: str | None = None, domain: str | None = None, limit: int | None = None
) -> list[PreferenceRow]:
    """Read rows from a JSON-lines file, checking all of them before any is selected.

    Args:
        path: file with one JSON object a line, in the schema of `PreferenceRow`.
        split: keep only rows of this split (`train`, `validation` or `test`).
        domain: keep only rows of this domain.
        limit: keep at most this many rows, the first ones.

    Raises:
        DataError: if the file cannot be read, a line is malformed, an id is used twice, a persona is in two
            splits, or nothing is left.
    """
    rows = _parse(path)
    _check_persona_splits(path, rows)
    chosen = [r for _, r in rows if split in (None, r.split) and domain in (None, r.domain)]
    if not chosen:
        splits = ", ".join(sorted({r.split for _, r in rows})) or "none"
        wanted = " ".join(f"{k}={v}" for k, v in (("split", split), ("domain", domain)) if v)
        raise DataError(f"{path}: no rows with {wanted or 'any content'} (splits there: {splits}); choose another")
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit} leaves no rows; use 1 or more")
    return chosen[:limit]


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


def _parse(path: Path) -> list[tuple[int, PreferenceRow]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"no data file at {path}; check --data") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; it must be UTF-8 text, one JSON object a line") from None
    rows: list[tuple[int, PreferenceRow]] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse_line(path, number, line)
        if row.id in seen:
            raise DataError(f"{path}:{number}: id {row.id!r} was used on line {seen[row.id]}; ids must be unique")
        seen[row.id] = number
        rows.append((number, row))
    if not rows:
        raise DataError(f"{path}: the file is empty; it needs one JSON object a line")
    return rows


def _parse_line(path: Path, number: int, line: str) -> PreferenceRow:
    try:
        return PreferenceRow.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{number}: not valid JSON ({error.msg} at column {error.colno}); mend the line"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DataError(f"{path}:{number}: {where}: {first['msg']}; see data/README.md for the schema") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not usable JSON ({str(error)[:60]}); mend the line") from None


def _check_persona_splits(path: Path, rows: Iterable[tuple[int, PreferenceRow]]) -> None:
    home: dict[tuple[str, str], tuple[str, int]] = {}
    for number, row in rows:
        split, line = home.setdefault((row.domain, row.persona), (row.split, number))
        if split != row.split:
            raise DataError(
                f"{path}:{number}: this persona is in split {row.split!r} here and {split!r} on line {line}; "
                "splits are by persona, so that no one tested was trained on"
            )
