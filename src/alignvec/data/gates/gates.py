"""The gates of each step by name, cheap ones first."""

from collections.abc import Mapping

from alignvec.data.gates.candidate import Candidate, Gate
from alignvec.data.gates.language import language
from alignvec.data.gates.leakage import leakage
from alignvec.data.gates.loop import loop
from alignvec.data.gates.private import personal_data
from alignvec.data.gates.refusal import refusal
from alignvec.data.gates.toxic import toxic
from alignvec.data.gates.words import empty, length_between, reply_length

_EVERYWHERE: Mapping[str, Gate] = {
    "loop": loop,
    "leakage": leakage,
    "toxic": toxic,
    "personal-data": personal_data,
    "language": language,
}

PERSONA_GATES: Mapping[str, Gate] = {"empty": empty, "length": length_between(4, 60), **_EVERYWHERE}
"""Gates of a persona."""

QUERY_GATES: Mapping[str, Gate] = {"empty": empty, "length": length_between(4, 120), **_EVERYWHERE}
"""Gates of a query."""

REPLY_GATES: Mapping[str, Gate] = {"empty": empty, "length": reply_length, "refusal": refusal, **_EVERYWHERE}
"""Gates of a reply at a level."""

NEED_DOMAIN: Mapping[str, tuple[str, ...]] = {
    "persona": ("leakage",),
    "query": ("leakage",),
    "reply": ("length", "refusal", "leakage"),
}
"""Stage to its gates that ask the domain for more than its language."""


def first_fault(candidate: Candidate, gates: Mapping[str, Gate]) -> tuple[str, str] | None:
    """Name of the first gate that rejects the candidate and its reason for people; None if it passes all."""
    for name, gate in gates.items():
        if reason := gate(candidate):
            return name, reason
    return None
