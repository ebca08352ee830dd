"""Gate against a text that shows the instructions it was written from."""

import re
from collections.abc import Iterator
from functools import lru_cache

from alignvec.data.domain import Domain
from alignvec.data.gates.candidate import Candidate
from alignvec.data.unspaced import runs, words

RUN = 5
"""Words in a row that a text may not share with an instruction."""

_THING = r"(?:answers?|repl(?:y|ies)|responses?)"
_MARKUP = re.compile(
    r"<\|\w+|\|>|\[/?INST\]|</?s>|<</?SYS>>|</?think>|<(?:start|end)_of_turn>"
    r"|^\s*\W{0,3}(?:assistant|user|human|system|AI|bot)\W{0,3}:"
    r"|^#{1,4} ?(?:instruction|response|input|question|answer)",
    re.IGNORECASE | re.MULTILINE,
)
_TALK = re.compile(
    rf"\b(?:here is|here's|here are|below is)\b[^.:]{{0,40}}"
    rf"\b(?:query|queries|persona|question|{_THING})\b(?=[^.?!]*:|\W*$)"
    rf"|\b(?:the|this|your|given|my|described) persona\b|\bpersona\s*:"
    rf"|^\W*(?:query|question|answer|reply|response|rewritten \w+|revised \w+)\W*:"
    rf"|\b(?:word count|word limit|words? long)\b|\(\d+ words\)|\bsystem prompt\b|\bas requested\b[,:]",
    re.IGNORECASE,
)


def leakage(candidate: Candidate) -> str | None:
    """Rejects a text that gives its instructions away.

    Those are chat markup, talk about the task ("Here is a query:"), a level's name as a label ("expert-level answer",
    "Avoidance:") and `RUN` words in a row of an instruction, or as many letters in a row as `RUN` words have in a
    script without spaces. A level's name as an ordinary word is fine. Talk and labels are known in English only.
    """
    text = candidate.text.replace("’", "'")
    for pattern in (_MARKUP, _TALK, _labels(tuple(candidate.domain.levels))):
        if found := pattern.search(text):
            return f"gives the instructions away: {found[0].strip()!r}"
    told = _told(candidate.domain, candidate.instructions)
    copied = next((run for run in _runs(text) if run in told), None)
    return f"copies an instruction: {copied!r}" if copied else None


@lru_cache(maxsize=16)
def _labels(levels: tuple[str, ...]) -> re.Pattern[str]:
    name = f"(?:{'|'.join(re.escape(level) for level in levels)})"
    return re.compile(
        rf"^\W*{name}(?:[ -]level)?(?: {_THING})?\W*(?::|\n)"
        rf"|[(\[]\s*{name}(?: level)?\s*[)\]]"
        rf"|\b{name}[ -]level\b|\blevel\W{{1,3}}{name}\s*(?:[.,;:)\]]|$)|\bas an? {name} {_THING}\b"
        rf"|\b(?:this|the|my|an?) {name} {_THING}\b",
        re.IGNORECASE | re.MULTILINE,
    )


def _told(domain: Domain, instructions: tuple[str, ...]) -> frozenset[str]:
    return _all_runs((*instructions, *(level.instruction for level in domain.levels.values())))


@lru_cache(maxsize=16)
def _all_runs(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(run for text in texts for run in _runs(text))


def _runs(text: str) -> Iterator[str]:
    found = re.findall(r"\w+", " ".join(words(text.lower())))
    yield from (" ".join(found[i : i + RUN]) for i in range(len(found) - RUN + 1))
    for letters, size in runs(text.lower()):  # wherever they were cut into words
        yield from (letters[i : i + RUN * size] for i in range(len(letters) - RUN * size + 1))
