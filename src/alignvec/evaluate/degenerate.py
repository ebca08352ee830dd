"""Replies that are broken whatever their level: empty, or caught in a loop."""

import re
from collections import Counter

MIN_WORDS = 3
LOOP_SHARE = 0.25
LOOP_RUN = 4


def is_degenerate(reply: str) -> bool:
    """Whether a reply is empty (under 3 words) or loops.

    A reply loops if over a quarter of its word 4-grams are repeats of earlier ones, or one word stands four times in
    a row.
    """
    words = re.findall(r"\w+", reply.lower())
    if len(words) < MIN_WORDS:
        return True
    if any(len(set(words[i : i + LOOP_RUN])) == 1 for i in range(len(words) - LOOP_RUN + 1)):
        return True
    grams = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
    total = sum(grams.values())
    return total > 0 and (total - len(grams)) / total > LOOP_SHARE
