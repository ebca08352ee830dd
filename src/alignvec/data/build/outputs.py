"""Files of a build, written beside their places and put there when it ends."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from alignvec.data.build.records import STAGE_OF, Rejected
from alignvec.files import storage_errors


class Outputs:
    """JSON-lines files that replace those of an earlier run only when `put_in_place` is called.

    What is rejected goes to one file, stage by stage, so that it does not depend on which stage was ahead.

    Args:
        folder: of the build.
        names: stages to write, each into its file.

    Raises:
        StorageError: if they cannot be written.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[str, IO[str]] = {}
        with storage_errors(folder):
            for name in (*names, *map(_rejected, STAGE_OF.values())):
                self._files[name] = self._stack.enter_context(self._staged(name).open("w", encoding="utf-8"))

    def write(self, name: str, record: BaseModel) -> None:
        """Append a record to a file."""
        with storage_errors(self._folder):
            self._files[name].write(record.model_dump_json(exclude_none=True) + "\n")

    def reject(self, rejected: Rejected) -> None:
        """Append a rejected text."""
        self.write(_rejected(STAGE_OF[rejected.stage]), rejected)

    def put_in_place(self) -> None:
        """Close the files and rename them to their names."""
        with storage_errors(self._folder):
            self._stack.close()
            parts = [self._staged(_rejected(stage)) for stage in dict.fromkeys(STAGE_OF.values())]
            with parts[0].open("ab") as whole:
                for part in parts[1:]:
                    with part.open("rb") as stream:
                        shutil.copyfileobj(stream, whole)
                    part.unlink()
            parts[0].replace(self._folder / "rejected.jsonl")
            for name in self._files:
                if (staged := self._staged(name)).exists():
                    staged.replace(self._folder / f"{name}.jsonl")

    def drop(self) -> None:
        """Close the files and remove what was not put in place."""
        self._stack.close()
        for name in self._files:
            self._staged(name).unlink(missing_ok=True)

    def _staged(self, name: str) -> Path:
        return self._folder / f".{name}.jsonl.part"


def _rejected(stage: str) -> str:
    return f"rejected-{stage}"
