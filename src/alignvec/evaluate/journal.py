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
        header = json.dumps({"scope": scope or {}}, sort_keys=True)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size:
                self._read(path, header)
            else:
                path.write_text(header + "\n", encoding="utf-8")

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

    def _read(self, path: Path, header: str) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")
        if lines[0] != header:
            raise DataError(f"{path.parent} holds results of other vectors, data or settings; choose another --out")
        whole, torn = lines[1:-1], lines[-1]
        for number, line in enumerate(whole, start=2):
            try:
                key, value = json.loads(line)
            except ValueError:
                raise DataError(f"{path}:{number}: damaged line; delete the file to measure again") from None
            self._values[key] = value
        if torn:  # the last line was cut off by a kill: drop it, it is measured again
            path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
