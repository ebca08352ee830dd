"""Files of rows, read and written one row at a time: JSON lines, and Parquet with one fixed schema."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

from pydantic import BaseModel

from alignvec.data.load import levels_of, numbered_rows
from alignvec.data.schema import PreferenceRow, Split
from alignvec.files import storage_errors

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1000
"""Rows that are held at once, and rows of a Parquet row group."""


class RowWriter:
    """Writes rows to a file, one JSON object a line; the file is in a staging folder that the caller owns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        with storage_errors(self.path):
            self._stream: TextIO = self.path.open("w", encoding="utf-8", newline="\n")
        return self

    def write(self, row: BaseModel) -> None:
        """Write one line; what is None is left out.

        Raises:
            StorageError: if the file cannot be written.
        """
        self.write_line(row.model_dump_json(exclude_none=True))

    def write_line(self, line: str) -> None:
        """Write a line as it is.

        Raises:
            StorageError: if the file cannot be written.
        """
        with storage_errors(self.path):
            self._stream.write(line + "\n")

    def __exit__(self, *_: object) -> None:
        with storage_errors(self.path):
            self._stream.close()


@contextmanager
def row_file(path: Path) -> Iterator[RowWriter]:
    """Yield a writer of a temporary sibling of `path` that becomes `path` when the block ends without an error.

    Raises:
        StorageError: if the place cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    with place as staging:
        part = Path(staging) / path.name
        with RowWriter(part) as writer:
            yield writer
        with storage_errors(path):
            part.replace(path)


def read_rows(path: Path) -> Iterator[PreferenceRow]:
    """Yield the rows of a JSON-lines file one by one, in memory that does not grow with the texts.

    Raises:
        DataError: if the file cannot be read or has no rows, a line is malformed, or an id is used twice.
    """
    return (row for _, row in numbered_rows(path))


def write_parquet(rows_file: Path, folder: Path) -> dict[Split, int]:
    """Write `folder/SPLIT.parquet` for each split that has rows, all with one schema, `BATCH` rows at a time.

    A reply per level is a struct with one field per level; what is missing is null.

    Returns:
        Number of rows of each split that was written.

    Raises:
        DataError: if the file is not valid, or a row has other levels than the first.
        StorageError: if a file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(read_rows(rows_file))
    schema = parquet_schema(levels_of([first]))
    counts: dict[Split, int] = {}
    with storage_errors(folder), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        writers: dict[Split, pq.ParquetWriter] = {}
        rows = read_rows(rows_file)
        while batch := list(islice(rows, BATCH)):
            by_split: dict[Split, list[dict[str, object]]] = {}
            for row in batch:
                levels_of([first, row])
                by_split.setdefault(row.split, []).append(row.model_dump())
            for split, records in by_split.items():
                if split not in writers:
                    writers[split] = stack.enter_context(pq.ParquetWriter(folder / f"{split}.parquet", schema))
                writers[split].write_table(pa.Table.from_pylist(records, schema=schema))
                counts[split] = counts.get(split, 0) + len(records)
    return counts


def parquet_schema(levels: tuple[str, ...]) -> "pa.Schema":
    """Schema of a Parquet file of rows with these levels."""
    import pyarrow as pa

    def struct(**fields: pa.DataType) -> pa.DataType:
        return pa.struct(list(fields.items()))

    text, whole, number = pa.string(), pa.int64(), pa.float64()
    provenance = struct(
        persona=struct(kind=text, name=text, licence=text),
        prompts=struct(persona=text, query=text, reply=text, judge=text),
        teacher=text,
        judge=text,
        sampling=struct(temperature=number, top_p=number, max_tokens=whole),
        seed=whole,
        attempts=struct(**dict.fromkeys(levels, whole)),
        time=text,
    )
    fields: dict[str, pa.DataType] = dict.fromkeys(("id", "split", "domain", "topic", "persona", "query"), text)
    return pa.schema({**fields, "responses": struct(**dict.fromkeys(levels, text)), "provenance": provenance})
