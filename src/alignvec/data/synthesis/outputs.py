"""Files of a build, written beside their places and put there when it ends."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from alignvec.data.synthesis.records import STAGE_OF, Rejected, read_records
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

    def put_in_place(self, *, longer_only: bool) -> list[str]:
        """Close the files and rename them to their names.

        A file that is there and has other records (edited by hand, say) is kept under another name.

        Args:
            longer_only: write no empty file, and keep one of an earlier run that has more records.

        Returns:
            The other names.
        """
        kept: list[str] = []
        with storage_errors(self._folder):
            self._stack.close()
            parts = [self._staged(_rejected(stage)) for stage in dict.fromkeys(STAGE_OF.values())]
            with parts[0].open("ab") as whole:
                for part in parts[1:]:
                    with part.open("rb") as stream:
                        shutil.copyfileobj(stream, whole)
                    part.unlink()
            parts[0].replace(self._staged("rejected"))
            for name in ("rejected", *self._files):
                staged, place = self._staged(name), self._folder / f"{name}.jsonl"
                if staged.exists() and not (longer_only and max(records_in(place), 1) > records_in(staged)):
                    if name != "rejected" and not _begin_alike(place, staged):
                        kept.append(place.replace(_free_name(place)).name)
                    staged.replace(place)
        return kept

    def drop(self) -> None:
        """Close the files and remove what was not put in place; a full disk is not told again."""
        with contextlib.suppress(OSError):
            self._stack.close()
        for name in ("rejected", *self._files):
            with contextlib.suppress(OSError):
                self._staged(name).unlink(missing_ok=True)

    def _staged(self, name: str) -> Path:
        return self._folder / f".{name}.jsonl.part"


def records_in(path: Path) -> int:
    """Records of a JSON-lines file; 0 if there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as stream:
        return sum(1 for _ in stream)


def _begin_alike(one: Path, other: Path) -> bool:
    """Whether the shorter of two files is the beginning of the longer; so is one that is not there."""
    if not one.exists():
        return True
    with one.open("rb") as mine, other.open("rb") as theirs:
        return all(a == b for a, b in zip(mine, theirs, strict=False))


def _free_name(path: Path) -> Path:
    """The first of NAME.1.jsonl, NAME.2.jsonl, ... that is free."""
    names = (path.with_suffix(f".{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not name.exists())


def rejected_by_stage(out: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Counts for a data set's card: stage to gate to the number of texts that are missing for it."""
    counts: dict[str, Counter[str]] = {}
    for rejected in read_records(out / "rejected.jsonl", Rejected, made_by="a build", may_be_empty=True):
        if rejected.final:
            counts.setdefault(rejected.stage, Counter())[rejected.gate] += 1
    return {"rejected": {stage: dict(gates.most_common()) for stage, gates in counts.items()}}


def _rejected(stage: str) -> str:
    return f"rejected-{stage}"
