"""Records of a file that others made, read one by one: JSON lines (also gzipped), JSON, CSV, Parquet."""

import csv
import gzip
import json
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvec.errors import DataError

Record = dict[str, Any]
_LONGEST_CELL = 2**31 - 1
_REST = "the file is damaged, cut short, or no JSON lines"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class BrokenLine:
    """A line of JSON lines that holds no record.

    Attributes:
        number: of the line, from 1.
        text: the line, without its end.
        reason: in the same words for all lines of a kind.
        detail: where and how it is broken.
    """

    number: int
    text: str
    reason: str
    detail: str | None = None

    def error(self, path: Path) -> DataError:
        """What to tell of a file with nothing but such lines."""
        detail = f" ({self.detail})" if self.detail else ""
        return DataError(f"{path}:{self.number}: {self.reason}{detail}; {_REST}")


def records(path: Path) -> Generator[Record | BrokenLine, None, None]:
    """Yield the records of a file, as its suffix says what it is; memory grows with the longest record only.

    A `.json` file that is one list is read as a whole. A line of a `.jsonl` file that holds no record is yielded too.

    Raises:
        DataError: if the file is missing, empty, cut short, or not what its suffix says.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise DataError(f"{path}: unknown kind of file; it must end in one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"no file at {path}; check the path")
    kind = name.removesuffix(".gz").rpartition(".")[2]
    reader = {"jsonl": _json_lines, "json": _json, "csv": _csv, "parquet": _parquet}[kind]
    empty = True
    try:
        for record in reader(path):
            empty = False
            yield record
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, ValueError) as error:
        cause = " ".join(str(error).split())[:120]
        raise DataError(
            f"cannot read {path} as {kind}: {cause}; the file is damaged or cut short, get it again"
        ) from None
    if empty:
        raise DataError(f"{path}: the file is empty; it needs one record or more")


def _open(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _json_lines(path: Path) -> Iterator[Record | BrokenLine]:
    with _open(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _object(number, line)


def _json(path: Path) -> Iterator[Record]:
    """A list of objects, or JSON lines under another name."""
    with _open(path) as stream:
        while (first := stream.read(1)).isspace():
            pass
    if first != "[":
        for found in _json_lines(path):
            if isinstance(found, BrokenLine):  # most likely one object over many lines, of which some look like records
                raise found.error(path)
            yield found
        return
    with _open(path) as stream:
        try:
            content = json.load(stream)
        except RecursionError:
            raise DataError(f"{path}: nested too deeply to be a list of records; check the file") from None
    for number, record in enumerate(content, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path}: entry {number} of the list is no object; each must be one with named fields")
        yield record


def _object(number: int, line: str) -> Record | BrokenLine:
    text = line.rstrip("\r\n")
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        detail = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        return BrokenLine(number, text, "not valid JSON", detail)
    except (RecursionError, ValueError):
        return BrokenLine(number, text, "not usable JSON", "nested too deeply, or a number too long")
    return record if isinstance(record, dict) else BrokenLine(number, text, "not a JSON object with named fields")


def _csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(_LONGEST_CELL)
    with _open(path) as stream:
        rows = csv.DictReader(stream, strict=True)
        for row in rows:
            if None in row:
                raise DataError(f"{path}:{rows.line_num}: more cells than columns; quote the cells that have commas")
            yield row


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
