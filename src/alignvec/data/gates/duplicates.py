"""Near-duplicates of texts seen so far: MinHash finds candidates in an SQLite file, exact Jaccard decides."""

import re
import sqlite3
from functools import cache, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash

from alignvec.errors import ConfigError, DataError, StorageError

SHINGLE = 4
"""Letters of a shingle. On the shipped queries and personas, 4 letters find more paraphrases for as few false alarms
than 5 letters or 1, 2 or 3 words; and they need no spaces between words."""

PERMUTATIONS = 200
MISSES = 1e-3
"""Largest share of pairs at the threshold that the bands may miss; of pairs above it, fewer are missed."""

SPREADS = 4
"""Standard deviations below the threshold from which texts are compared: of pairs at it, 1 in 30,000 is missed."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, text TEXT NOT NULL, sketch BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS bands (band INTEGER, number INTEGER, PRIMARY KEY (band, number)) WITHOUT ROWID;
"""


class NearDuplicates:
    """Texts by key, asked for one that is nearly the same; kept in a file, so that memory does not grow with them.

    Two texts are near-duplicates if the Jaccard similarity of their sets of `SHINGLE` letters in a row (of words in
    lower case, without punctuation) is at least the threshold. At 0.7 that is a query of 25 words with one or
    two words changed, or two short questions that differ in one word, whatever the word means.

    Args:
        path: SQLite file, made if there is none; None for a temporary one.
        threshold: least Jaccard similarity of near-duplicates.

    Raises:
        ConfigError: if the threshold is below about 0.26 or above 1.
        DataError: if the file is not such a store, or was made with a threshold that needs other bands.
        StorageError: if the file cannot be written.
    """

    def __init__(self, path: Path | None = None, *, threshold: float = 0.7) -> None:
        self._path = path
        self._threshold = threshold
        self._rows = _rows_of_a_band(threshold)
        try:
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path or "", isolation_level=None)  # "" is a file that SQLite deletes
            self._run("PRAGMA journal_mode=WAL")
            self._run("PRAGMA synchronous=NORMAL")
            version = self._run("PRAGMA user_version").fetchone()[0]
            if version not in (0, self._rows):
                raise DataError(f"{path} holds near-duplicates for another threshold than {threshold}; move it away")
            self._run(f"PRAGMA user_version={self._rows}")
            self._database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; choose another place") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a temporary one is gone."""
        self._database.close()

    def find(self, text: str) -> str | None:
        """Key of the text added before that is most like this one, the earliest of equals; None if none is near.

        A near-duplicate exactly at the threshold is missed with a probability of at most `MISSES`; what is found is
        always one.
        """
        wanted, sketch = shingles(text), _sketch(text)
        bands = _bands(sketch, self._rows)
        marks = ", ".join("?" * len(bands))
        near = self._run(
            "SELECT number, sketch FROM texts WHERE number IN "
            f"(SELECT DISTINCT number FROM bands WHERE band IN ({marks})) ORDER BY number",
            bands,
        ).fetchall()
        best, likeness = None, 0.0
        for number in self._likely(sketch, near):
            key, other = self._run("SELECT key, text FROM texts WHERE number = ?", (number,)).fetchone()
            if (now := jaccard(wanted, shingles(other))) >= self._threshold and now > likeness:
                best, likeness = key, now
        return best

    def _likely(self, sketch: Any, near: list[tuple[int, bytes]]) -> list[int]:
        """Those whose sketches agree as often as near-duplicates' do: comparing texts is a hundred times slower."""
        if not near:
            return []
        sketches = np.frombuffer(b"".join(found for _, found in near), dtype=np.uint8).reshape(-1, PERMUTATIONS)
        agreeing = (sketches == _short(sketch)).mean(axis=1)
        spread = (self._threshold * (1 - self._threshold) / PERMUTATIONS) ** 0.5
        return [near[i][0] for i in np.flatnonzero(agreeing >= self._threshold - SPREADS * spread)]

    def add(self, key: str, text: str) -> None:
        """Keep a text; adding it again under its key changes nothing.

        Raises:
            DataError: if the key stands for another text.
        """
        if known := self._run("SELECT text FROM texts WHERE key = ?", (key,)).fetchone():
            if known[0] != text:
                raise DataError(f"two texts have the key {key!r} among the near-duplicates; give each a key of its own")
            return
        sketch = _sketch(text)
        values = (key, text, _short(sketch).tobytes())
        self._run("BEGIN")
        number = self._run("INSERT INTO texts (key, text, sketch) VALUES (?, ?, ?)", values).lastrowid
        try:
            rows = ((band, number) for band in _bands(sketch, self._rows))
            self._database.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", rows)
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error
        self._run("COMMIT")

    def _run(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._database.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from error

    def _fault(self, error: sqlite3.DatabaseError) -> DataError | StorageError:
        place = self._path or "the temporary folder"
        if isinstance(error, sqlite3.OperationalError):
            return StorageError(f"cannot use {place}: {error}; free some space or choose another place")
        return DataError(f"{place} is damaged or holds no near-duplicates ({error}); move it away to begin anew")


def shingles(text: str) -> frozenset[str]:
    """The sets of `SHINGLE` letters in a row of a text's words, in lower case, joined by single spaces."""
    letters = " ".join(re.findall(r"\w+", text.lower()))
    return frozenset(letters[i : i + SHINGLE] for i in range(max(1, len(letters) - SHINGLE + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """|A ∩ B| / |A ∪ B| of two sets, not both empty."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def _rows_of_a_band(threshold: float) -> int:
    # A band agrees with probability s^rows; more rows mean fewer chance candidates, as long as few pairs are missed.
    fit = [
        rows
        for rows in range(2, 11)
        if 0 < threshold <= 1 and (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSES
    ]
    if not fit:
        raise ConfigError(f"near-duplicates cannot be found at a similarity of {threshold}; use 0.3 to 1")
    return fit[-1]


@lru_cache(maxsize=4)
def _sketch(text: str) -> Any:
    """MinHash of a text's shingles: `PERMUTATIONS` integers, of which two texts share the share J on average."""
    sketch = _blank().copy()
    sketch.update_batch([shingle.encode() for shingle in shingles(text)])
    return sketch.hashvalues


def _short(sketch: Any) -> Any:
    """One byte of each hash: different ones agree by chance in one of 256."""
    return (sketch & 0xFF).astype(np.uint8)


def _bands(sketch: Any, rows: int) -> tuple[int, ...]:
    return tuple(
        xxhash.xxh3_64_intdigest(sketch[first : first + rows].tobytes(), seed=first) - 2**63  # SQLite's are signed
        for first in range(0, PERMUTATIONS - rows + 1, rows)
    )


@cache
def _blank() -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS)
