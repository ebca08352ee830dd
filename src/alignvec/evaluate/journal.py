"""A journal of finished measurements, so that a killed run goes on where it was."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvec.errors import DataError
from alignvec.files import storage_errors


class Journal:
    """Key to JSON value, appended to a file line by line; without a file, in memory only.

    Args:
        path: file to go on with, or to begin.
        scope: what the measurements depend on besides their keys (vectors, sampling, data); stored on the first line.

    Raises:
        DataError: if the file belongs to another scope, or a line other than the last is damaged.
        StorageError: if the file cannot be written.
    """

    def __init__(self, path: Path | None = None, scope: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        self._added: set[str] = set()
        self._reused: set[str] = set()
        if path is None:
            return
        header = json.dumps({"scope": scope or {}}, sort_keys=True).encode() + b"\n"
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (path.is_file() and self._read(path, header)):
                path.write_bytes(header)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        if key not in self._added and key in self._values:
            self._reused.add(key)
        return self._values[key]

    @property
    def added(self) -> int:
        """Measurements that this process made."""
        return len(self._added)

    @property
    def reused(self) -> int:
        """Measurements of an earlier process that this one has read."""
        return len(self._reused)

    def add(self, key: str, value: Any) -> None:
        """Keep a finished measurement."""
        self._values[key] = value
        self._added.add(key)
        if self._path is not None:
            with storage_errors(self._path), self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([key, value], ensure_ascii=False) + "\n")

    def _read(self, path: Path, header: bytes) -> bool:
        """Take over the whole lines of the file; a line cut off by a kill is dropped and measured again.

        Returns whether the file can be appended to (it cannot if not even its header is whole).
        """
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole and header.startswith(content):
            return False
        lines = whole.split(b"\n")
        if lines[0] + b"\n" != header:
            raise DataError(f"{path.parent} holds results of other vectors, data or settings; choose another --out")
        for number, line in enumerate(lines[1:-1], start=2):
            try:
                entry = json.loads(line.decode("utf-8"))
            except ValueError:
                entry = None
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
                raise DataError(f"{path}:{number}: damaged line; delete the file to measure again")
            self._values[entry[0]] = entry[1]
        if len(whole) < len(content):
            with path.open("r+b") as stream:
                stream.truncate(len(whole))
        return True


@dataclass(frozen=True)
class Recorded:
    """What a journal holds.

    Attributes:
        path: of the journal.
        scope: what its measurements depend on.
        values: key to measurement.
    """

    path: Path
    scope: Mapping[str, Any]
    values: Mapping[str, Any]


def read_journal(path: Path) -> Recorded:
    """Read a journal that may still be growing: a line that is not whole yet does not count.

    Raises:
        DataError: if it cannot be read, or is no journal.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read the journal {path}: {error.strerror}; name a journal.jsonl of alignvec sweep or solve"
        ) from None
    header, *lines = content[: content.rfind(b"\n") + 1].split(b"\n")
    try:
        scope = dict(json.loads(header)["scope"])
        values = dict(json.loads(line) for line in lines[:-1])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} is no journal of alignvec solve or sweep, or is damaged; measure again") from None
    return Recorded(path, scope, values)
