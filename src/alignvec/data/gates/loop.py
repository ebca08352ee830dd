"""Text that is broken whatever its level: empty, or caught in a loop."""

import re
from collections import Counter

from alignvec.data.gates.candidate import Candidate
from alignvec.data.unspaced import words

MIN_WORDS = 3
LOOP_SHARE = 0.25
LOOP_RUN = 4


def is_degenerate(reply: str) -> bool:
    """Whether a reply is empty (under 3 words) or loops."""
    return len(_words(reply)) < MIN_WORDS or loops(reply)


def loops(text: str) -> bool:
    """Whether over a quarter of the word 4-grams repeat earlier ones, or one word stands four times in a row.

    Scripts without spaces are cut into pieces of a word's length, see `unspaced.words`; in a loop without punctuation
    the cuts may fall differently each time, so that it is found only after some more turns.
    """
    found = _words(text)
    if any(len(set(found[i : i + LOOP_RUN])) == 1 for i in range(len(found) - LOOP_RUN + 1)):
        return True
    grams = Counter(tuple(found[i : i + 4]) for i in range(len(found) - 3))
    total = sum(grams.values())
    return total > 0 and (total - len(grams)) / total > LOOP_SHARE


def loop(candidate: Candidate) -> str | None:
    """Rejects a text that repeats itself, see `loops`."""
    return "repeats itself" if loops(candidate.text) else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", " ".join(words(text.lower())))
