"""Gates that look at the words of a text: none at all, too few or too many."""

import re

from alignvec.data.confound import word_count
from alignvec.data.gates.candidate import Candidate, Gate


def empty(candidate: Candidate) -> str | None:
    """Rejects a text without a letter or digit."""
    return None if any(letter.isalnum() for letter in candidate.text) else "no words"


def reply_length(candidate: Candidate) -> str | None:
    """Rejects a reply outside the word band that the domain gives for its level."""
    if candidate.level is None:
        return None
    return length_between(*candidate.domain.levels[candidate.level].words)(candidate)


def length_between(fewest: int, most: int) -> Gate:
    """A gate that rejects a text of fewer or more words than these, see `word_count`."""

    def length(candidate: Candidate) -> str | None:
        count = word_count(candidate.text)
        return None if fewest <= count <= most else f"{count} words, not {fewest} to {most}"

    return length


def sentences(text: str) -> list[str]:
    """The sentences of a text, roughly: cut after a full stop, question or exclamation mark."""
    return [part for part in re.split(r"(?<=[.!?])\s+|(?<=[。！？])|\n+", text) if part.strip()]
