"""A journal of finished measurements, so that a killed run goes on where it was."""

import json
from collections.abc import Mapping
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
        return self._values[key]

    def add(self, key: str, value: Any) -> None:
        """Keep a finished measurement."""
        self._values[key] = value
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
