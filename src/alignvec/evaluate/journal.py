"""A journal of finished measurements, so that a killed run goes on where it was, with as many processes as it likes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvec import processes
from alignvec.errors import DataError
from alignvec.files import storage_errors


class Journal:
    """Key to JSON value, appended to a file line by line; without a file, in memory only.

    Of several processes the main one appends to the file, and each other to one of its own beside it
    (`journal.jsonl.part1` and so on) until the main one knows what is in there (`exchange`). What a kill leaves of
    those is taken over by the next run. All processes must open a journal, and exchange, together.

    Args:
        path: file to go on with, or to begin.
        scope: what the measurements depend on besides their keys (vectors, sampling, data); stored on the first line.

    Raises:
        DataError: if the file belongs to another scope, or a line other than the last is damaged.
        StorageError: if the file cannot be written.
        ProcessError: if another process has ended.
    """

    def __init__(self, path: Path | None = None, scope: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = {}
        self._added: set[str] = set()
        self._reused: set[str] = set()
        self._untold: dict[str, Any] = {}
        self._file: _LineFile | None = None
        if path is None:
            return
        header = json.dumps({"scope": scope or {}}, sort_keys=True).encode() + b"\n"
        own = path if processes.is_main() else path.with_name(f"{path.name}.part{processes.index()}")
        self._file = _LineFile(own, header)
        self._values = processes.on_main(self._file.open)
        if not processes.is_main():
            self._file.remove()  # of an earlier run, where machines do not share their files

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        if key not in self._added and key in self._values:
            self._reused.add(key)
        return self._values[key]

    @property
    def added(self) -> int:
        """Measurements made since the journal was opened."""
        return len(self._added)

    @property
    def reused(self) -> int:
        """Measurements of an earlier run that this one has read."""
        return len(self._reused)

    def add(self, key: str, value: Any) -> None:
        """Keep a finished measurement."""
        self._keep({key: value})
        self._untold[key] = value
        if self._file is not None:
            self._file.append({key: value})

    def exchange(self) -> int:
        """Let all processes know what each has added; returns how many measurements were new to this one.

        Raises:
            ProcessError: if another process has ended.
        """
        if processes.count() == 1:
            return 0
        told, self._untold = processes.gather(self._untold), {}
        news = {key: value for own in told for key, value in own.items() if key not in self._values}
        self._keep(news)
        if self._file is not None:
            if processes.is_main():
                self._file.append(news)
            processes.gather(None)  # written, so that the others' files may go
            if not processes.is_main():
                self._file.remove()
        return len(news)

    def _keep(self, found: Mapping[str, Any]) -> None:
        self._values |= found
        self._added |= found.keys()


@dataclass(frozen=True)
class _LineFile:
    """A journal's file: the header with the scope, then a line for each measurement."""

    path: Path
    header: bytes

    def open(self) -> dict[str, Any]:
        """What the file holds, with what other processes have left beside it; begins the file if it is not there."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            values = self._read()
            if values is None:
                self.path.write_bytes(self.header)
                values = {}
            parts = re.compile(re.escape(self.path.name) + r"\.part[0-9]+")
            for part in sorted(p for p in self.path.parent.iterdir() if parts.fullmatch(p.name)):
                left = _LineFile(part, self.header)._read() or {}
                self.append({key: value for key, value in left.items() if key not in values})
                values |= left
                part.unlink()
        return values

    def append(self, found: Mapping[str, Any]) -> None:
        lines = [json.dumps([key, value], ensure_ascii=False) + "\n" for key, value in found.items()]
        with storage_errors(self.path), self.path.open("ab") as stream:
            if not stream.tell():
                stream.write(self.header)
            stream.write("".join(lines).encode())

    def remove(self) -> None:
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        """The whole lines of the file; a line cut off by a kill is dropped and measured again.

        None if the file cannot be appended to: it is not there, or not even its header is whole.
        """
        if not self.path.is_file():
            return None
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole and self.header.startswith(content):
            return None
        lines = whole.split(b"\n")
        if lines[0] + b"\n" != self.header:
            raise DataError(
                f"{self.path.parent} holds results of other vectors, data or settings; choose another --out"
            )
        values = {}
        for number, line in enumerate(lines[1:-1], start=2):
            try:
                entry = json.loads(line.decode("utf-8"))
            except ValueError:
                entry = None
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
                raise DataError(f"{self.path}:{number}: damaged line; delete the file to measure again")
            values[entry[0]] = entry[1]
        if len(whole) < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))
        return values


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
