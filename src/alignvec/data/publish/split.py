"""Splits by persona: a stable hash, so that a row's split depends on its persona and on nothing else."""

import hashlib
import math
import unicodedata
from collections import Counter
from pathlib import Path

from alignvec.data.publish.files import read_rows, row_file
from alignvec.data.schema import SPLITS, Split
from alignvec.errors import DataError

RATIOS = (0.7, 0.1, 0.2)
"""Shares of personas for train, validation and test."""


def split_of(persona: str, *, ratios: tuple[float, float, float] = RATIOS, salt: str = "") -> Split:
    """Split of a persona; other personas and the domain play no part, spelling of case and spaces neither.

    Args:
        persona: its description.
        ratios: shares of train, validation and test; they add up to 1.
        salt: another one deals the personas anew.

    Raises:
        DataError: if the ratios are no shares of a whole.
    """
    check_ratios(ratios)
    normalised = " ".join(unicodedata.normalize("NFKC", persona).casefold().split())
    digest = hashlib.sha256(f"{salt}\n{normalised}".encode()).digest()
    point = int.from_bytes(digest[:6]) / 2**48
    if point < ratios[0]:
        return "train"
    return "validation" if point < ratios[0] + ratios[1] else "test"


def check_ratios(ratios: tuple[float, float, float]) -> None:
    """Check that ratios are shares of a whole.

    Raises:
        DataError: if one is negative or no number, or they do not add up to 1.
    """
    if not (all(ratio >= 0 for ratio in ratios) and math.isclose(sum(ratios), 1, abs_tol=1e-6)):
        given = ", ".join(f"{ratio:g}" for ratio in ratios)
        raise DataError(f"split ratios {given} are no shares of a whole; give three that add up to 1, as 0.7,0.1,0.2")


def parse_ratios(text: str) -> tuple[float, float, float]:
    """Parse `0.7,0.1,0.2`.

    Raises:
        DataError: if these are not three shares of a whole.
    """
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"--ratios {text!r} is not three numbers; write train,validation,test as 0.7,0.1,0.2") from None
    check_ratios((train, validation, test))
    return train, validation, test


def assign_splits(
    rows_file: Path, out: Path, *, ratios: tuple[float, float, float] = RATIOS, salt: str = ""
) -> dict[Split, int]:
    """Write the rows of a file to `out` (it may be the same file), each with the split of its persona.

    Returns:
        Number of rows of each split; every split is named.

    Raises:
        DataError: if the ratios or the file are not valid.
        StorageError: if `out` cannot be written.
    """
    check_ratios(ratios)
    counts: Counter[Split] = Counter()
    with row_file(out) as writer:
        for row in read_rows(rows_file):
            moved = row.model_copy(update={"split": split_of(row.persona, ratios=ratios, salt=salt)})
            counts[moved.split] += 1
            writer.write(moved)
    return {split: counts[split] for split in SPLITS}
