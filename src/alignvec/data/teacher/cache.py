"""Answers kept in SQLite under the whole request's hash, so that nothing is paid for twice."""

import sqlite3
from pathlib import Path
from types import TracebackType

from alignvec.data.teacher.request import Answer, Request
from alignvec.errors import DataError, StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, time TEXT NOT NULL
) WITHOUT ROWID
"""


class AnswerCache:
    """A file of answers; each is committed before `put` returns, so a killed process loses none.

    A crash of the machine (not of the process) may lose the last few.

    Args:
        path: SQLite file; made if there is none.

    Raises:
        DataError: if the file is not such a cache.
        StorageError: if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(_SCHEMA)
            self._database.execute("SELECT key, text, finish_reason FROM answers LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; choose another place") from error

    def __enter__(self) -> "AnswerCache":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def get(self, request: Request) -> Answer | None:
        """The answer to a request, if there is one."""
        try:
            row = self._database.execute(
                "SELECT text, finish_reason, prompt_tokens, completion_tokens, time FROM answers WHERE key = ?",
                (request.key,),
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error
        return None if row is None else Answer(*row)

    def put(self, request: Request, answer: Answer) -> None:
        """Keep an answer."""
        row = (answer.text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens, answer.time)
        try:
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", (request.key, *row))
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error

    def __len__(self) -> int:
        try:
            return int(self._database.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error

    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens of all answers kept."""
        query = "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0) FROM answers"
        try:
            prompt, completion = self._database.execute(query).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error
        return prompt, completion

    def _fault(self, error: sqlite3.DatabaseError) -> DataError | StorageError:
        if isinstance(error, sqlite3.OperationalError):
            return StorageError(f"cannot use {self._path}: {error}; free some space or choose another place")
        return DataError(f"{self._path} is damaged or no cache of answers ({error}); move it away to begin anew")
