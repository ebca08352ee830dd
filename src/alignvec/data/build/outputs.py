"""Files of a build, written beside their places and put there when it ends."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from alignvec.files import storage_errors


class Outputs:
    """JSON-lines files that replace those of an earlier run only when `put_in_place` is called.

    Args:
        folder: of the build.
        names: files to write, without `.jsonl`.

    Raises:
        StorageError: if they cannot be written.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[str, IO[str]] = {}
        with storage_errors(folder):
            for name in names:
                self._files[name] = self._stack.enter_context(self._staged(name).open("w", encoding="utf-8"))

    def write(self, name: str, record: BaseModel) -> None:
        """Append a record to a file."""
        with storage_errors(self._folder):
            self._files[name].write(record.model_dump_json(exclude_none=True) + "\n")

    def put_in_place(self) -> None:
        """Close the files and rename them to their names."""
        with storage_errors(self._folder):
            self._stack.close()
            for name in self._files:
                self._staged(name).replace(self._folder / f"{name}.jsonl")

    def drop(self) -> None:
        """Close the files and remove what was not put in place."""
        self._stack.close()
        for name in self._files:
            self._staged(name).unlink(missing_ok=True)

    def _staged(self, name: str) -> Path:
        return self._folder / f".{name}.jsonl.part"
