"""The ways to ask for a level: knobs, a one-sentence instruction (zero-shot), three examples; as chats."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError

Way = Literal["knob", "knobs_3", "zero_shot", "three_shot"]
SHOTS = 3
"""Examples of a 3-shot prompt."""
FILLER = "You work for a clinic, a law office and a bank. Be polite, keep to the question and write plain English. "
CLAIM = 0.5
"""The paper's claim (arXiv 2410.19206): a knob costs at most this share of a prompt that asks for the level."""


def filler(tokenizer: Any, tokens: int) -> str:
    """Text of so many tokens, as a system prompt that every way pays for."""
    text = FILLER * (1 + tokens // 10)
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]))


def chat_of(
    way: str, query: str, *, system: str, instruction: str, shots: Sequence[PreferenceRow], level: str
) -> list[dict[str, str]]:
    """The chat that asks in one way for a level; with knobs the chat does not say it.

    Args:
        way: one of `Way`.
        query: what the user asks.
        system: system prompt of all ways; may be empty.
        instruction: what zero-shot adds to it.
        shots: rows of the training split, whose replies at the level 3-shot shows.
        level: that is asked for.
    """
    told = "\n".join(part for part in (system, instruction if way == "zero_shot" else "") if part)
    examples = [
        {"role": role, "content": content}
        for row in (shots if way == "three_shot" else ())
        for role, content in (("user", row.query), ("assistant", row.responses[level]))
    ]
    head = [{"role": "system", "content": told}] if told else []
    return [*head, *examples, {"role": "user", "content": query}]


def check_shots(shots: Sequence[PreferenceRow], level: str) -> None:
    """Refuse examples that are too few, or have no reply at the level.

    Raises:
        DataError: naming the row.
    """
    if len(shots) != SHOTS:
        raise DataError(f"{len(shots)} examples for a {SHOTS}-shot prompt; give {SHOTS} rows of the training split")
    for row in shots:
        if level not in row.responses:
            raise DataError(f"row {row.id} has no reply at level {level!r} (have: {', '.join(row.responses)})")


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all prompts begin with, leaving each at least one of its own."""
    shortest = min(map(len, prompts)) - 1
    first = prompts[0]
    return next((i for i in range(shortest) if any(p[i] != first[i] for p in prompts)), shortest)


def holds_up_to(points: Sequence[tuple[int, float]]) -> int | None:
    """Longest system prompt up to which, from the shortest on, a knob's share of the cost is at most `CLAIM`.

    Args:
        points: tokens of the system prompt and the share, shortest first.

    Returns:
        Its tokens; None if it does not hold at the shortest.
    """
    last = None
    for length, share in points:
        if share > CLAIM:
            break
        last = length
    return last


def shares_of(points: Sequence[Mapping[str, Any]], way: str, cost: str) -> list[tuple[int, float]]:
    """What `holds_up_to` takes, from points of a curve as JSON lines of benchmarks hold them."""
    return [(point["system_tokens"], point["knob_vs"][way][cost]) for point in points]
