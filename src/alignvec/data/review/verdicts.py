"""The ratings file while people rate: read on before each answer, and appended to one whole line at a time."""

import errno
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from alignvec.data.load import levels_of
from alignvec.data.review.ratings import Rating, parse_rating, ratings_text
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.files import storage_errors


class Verdicts:
    """Everybody's verdicts on the replies of some rows; several processes may share one file.

    Attributes:
        path: the ratings file, JSON lines, append-only.
        saved: rater to the number of ratings that this object has appended.
    """

    def __init__(self, path: Path, rows: Sequence[PreferenceRow]) -> None:
        """Read the ratings so far, or make an empty file.

        Raises:
            DataError: if a line is malformed, or rates a reply that the rows do not have.
            StorageError: if the place cannot be written.
        """
        self.path = path
        self.saved: Counter[str] = Counter()
        self._levels = frozenset(levels_of(rows))
        self._ids = frozenset(row.id for row in rows)
        self._latest: dict[str, dict[tuple[str, str], Rating]] = {}
        self._inode, self._end, self._lines = -1, 0, 0
        self._lock = FileLock(path.parent / f".{path.name}.lock")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._up_to_date():
            pass

    def of(self, rater: str) -> list[Rating]:
        """The rater's verdicts, one a reply, in the order in which they were given or last changed.

        Raises:
            DataError, StorageError: as when the file was opened.
        """
        with self._up_to_date():
            return list(self._latest.get(rater, {}).values())

    def save(self, rating: Rating) -> None:
        """Append a rating; it is on the disk when this returns.

        Raises:
            DataError, StorageError: as when the file was opened.
        """
        line = ratings_text([rating]).encode()
        with self._up_to_date() as stream:
            if os.write(stream.fileno(), line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(stream.fileno())
            self._read_on(stream)
            self.saved[rating.rater] += 1

    @contextmanager
    def _up_to_date(self) -> Iterator[BinaryIO]:
        """Yield the locked file, all of whose lines are whole and read."""
        with storage_errors(self.path), self._lock, self.path.open("ab+", buffering=0) as stream:
            self._read_on(stream)
            yield stream

    def _read_on(self, stream: BinaryIO) -> None:
        state = os.fstat(stream.fileno())
        if state.st_ino != self._inode or state.st_size < self._end:  # replaced or cut by somebody: begin anew
            self._latest.clear()
            self._inode, self._end, self._lines = state.st_ino, 0, 0
        stream.seek(self._end)
        for line in stream:
            self._take(stream, line)

    def _take(self, stream: BinaryIO, line: bytes) -> None:
        rating = parse_rating(self.path, self._lines + 1, line) if line.strip() else None
        if rating:
            self._require_known(rating)
            of_rater = self._latest.setdefault(rating.rater, {})
            of_rater.pop(rating.reply, None)  # so that the order is that of the last lines
            of_rater[rating.reply] = rating
        if line.endswith(b"\n"):
            self._end += len(line)
        elif rating or not line.strip():
            self._end += len(line) + os.write(stream.fileno(), b"\n")
        else:  # nobody else writes now: whoever began this line was killed, and its rater has seen no next reply
            logging.getLogger(__name__).warning("%s: removed a last line that a kill had cut off", self.path)
            os.ftruncate(stream.fileno(), self._end)
            return
        self._lines += 1

    def _require_known(self, rating: Rating) -> None:
        levels = {rating.shown_level} | ({rating.level} if rating.level else set())
        if rating.id not in self._ids or not levels <= self._levels:
            raise DataError(
                f"{self.path}:{self._lines + 1}: row {rating.id!r} rated {rating.shown_level!r} as {rating.level!r} "
                "is not of these rows and levels; name another file with --out"
            )
