"""Published formats of preference sets, each a function from one record to a prompt with two replies."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alignvec.data.foreign.records import Record
from alignvec.errors import DataError

MultiTurn = Literal["skip", "flatten"]
Prefer = Literal["safer", "better"]
Alike = Literal["keep", "skip"]
FormatName = Literal["pairs", "safe-rlhf", "hh-rlhf", "ultrafeedback"]
Turn = tuple[str, str]
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}


_SCORES = tuple(
    (left, right)
    for noun in ("score", "rating")
    for mark in "_-"
    for left, right in (
        (f"{noun}{mark}chosen", f"{noun}{mark}rejected"),
        (f"chosen{mark}{noun}", f"rejected{mark}{noun}"),
    )
)


class Unusable(Exception):
    """A record that makes no row; its text is the reason, in the same words for all records of a kind."""


@dataclass(frozen=True)
class Pair:
    """What a record says.

    Attributes:
        prompt: what is answered; a conversation as a transcript, if it was flattened.
        opening: the first thing that the user said; who opens alike is one asker.
        chosen: the reply that was preferred.
        rejected: the other one.
        note: something to count and tell about the pair.
    """

    prompt: str
    opening: str
    chosen: str
    rejected: str
    note: str | None = None


@dataclass(frozen=True)
class Reading:
    """Choices that a format leaves open.

    Attributes:
        multi_turn: whether a conversation of several turns is skipped, or becomes one query: its transcript.
        prefer: which of two preferences of a SafeRLHF record counts.
        alike: whether a SafeRLHF record whose replies are both flagged safe, or both unsafe, makes a row.
    """

    multi_turn: MultiTurn = "skip"
    prefer: Prefer = "safer"
    alike: Alike = "keep"


def pairs(record: Record, reading: Reading) -> Pair:
    """Strings `prompt`, `chosen`, `rejected`; equal scores, if there are any, are a tie."""
    _check_scores(record)
    prompt = _text(record, "prompt")
    return Pair(prompt, prompt, _text(record, "chosen"), _text(record, "rejected"))


def safe_rlhf(record: Record, reading: Reading) -> Pair:
    """PKU-SafeRLHF: `prompt`, `response_0`, `response_1`, and which one is safer, or better (more helpful).

    The safer of two replies that are both flagged safe, or both unsafe, is so by a shade: noted, or no row at all.
    """
    prompt, replies = _text(record, "prompt"), [_text(record, f"response_{i}") for i in (0, 1)]
    chosen = _choice(record, f"{reading.prefer}_response_id")
    flags = [_flag(record.get(f"is_response_{i}_safe")) for i in (0, 1)]
    note = "the chosen reply is flagged unsafe" if flags[chosen] is False else None
    if flags[0] is not None and flags[0] == flags[1]:
        note = f"both replies are flagged {'safe' if flags[0] else 'unsafe'}"
        if reading.alike == "skip":
            raise Unusable(note)
    return Pair(prompt, prompt, replies[chosen], replies[1 - chosen], note)


def hh_rlhf(record: Record, reading: Reading) -> Pair:
    """Anthropic's hh-rlhf: `chosen` and `rejected` are transcripts that differ in the last reply."""
    chosen, rejected = (_transcript(_text(record, side, strip=False)) for side in ("chosen", "rejected"))
    return _conversation(chosen, rejected, reading)


def ultrafeedback(record: Record, reading: Reading) -> Pair:
    """UltraFeedback, binarized: `chosen` and `rejected` are lists of messages; equal scores are a tie."""
    _check_scores(record)
    before = record.get("prompt")
    opening = _messages(before, "prompt") if isinstance(before, list) else []
    chosen, rejected = (opening + _messages(record.get(side), side) for side in ("chosen", "rejected"))
    if len(chosen) == len(rejected) == 1 and isinstance(before, str):
        prompt = ("user", _text(record, "prompt"))
        chosen, rejected = [prompt, *chosen], [prompt, *rejected]
    return _conversation(chosen, rejected, reading)


FORMATS: Mapping[FormatName, Callable[[Record, Reading], Pair]] = {
    "pairs": pairs,
    "safe-rlhf": safe_rlhf,
    "hh-rlhf": hh_rlhf,
    "ultrafeedback": ultrafeedback,
}
_COLUMNS: Mapping[FormatName, tuple[str, ...]] = {
    "pairs": ("prompt", "chosen", "rejected"),
    "safe-rlhf": ("prompt", "response_0", "response_1"),
    "hh-rlhf": ("chosen", "rejected"),
    "ultrafeedback": ("chosen", "rejected"),
}


def check_columns(name: FormatName, record: Record, reading: Reading, source: str) -> None:
    """Check that a file's first record has the columns that a format needs.

    Raises:
        DataError: naming the columns that are missing and those that are there.
    """
    wanted = _COLUMNS[name]
    if name == "safe-rlhf":
        wanted += (f"{reading.prefer}_response_id",)
    if missing := [column for column in wanted if column not in record]:
        other = {"safer": "better", "better": "safer"}[reading.prefer]
        way = f"map them, as in --map {missing[0]}=COLUMN"
        if missing == [f"{reading.prefer}_response_id"] and f"{other}_response_id" in record:
            way = f"use --prefer {other}"
        raise DataError(f"{source}: no column {', '.join(missing)}, which {name} needs (has: {_names(record)}); {way}")


def detect(record: Record, source: str) -> FormatName:
    """Format of a file, told from its first record.

    Raises:
        DataError: if it is none of them, naming the columns and how to map them.
    """
    chosen, rejected = record.get("chosen"), record.get("rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        return "ultrafeedback"
    if isinstance(chosen, str) and "prompt" not in record and _HH_TURN.match(chosen):
        return "hh-rlhf"
    if all(column in record for column in _COLUMNS["pairs"]):
        return "pairs"
    if all(column in record for column in _COLUMNS["safe-rlhf"]):
        return "safe-rlhf"
    raise DataError(
        f"{source}: no format fits its columns ({_names(record)}); say which column is which, as in "
        "--map prompt=COLUMN --map chosen=COLUMN --map rejected=COLUMN, or name one with --format"
    )


def rename(record: Record, columns: Mapping[str, str]) -> Record:
    """The record with, for each name in `columns`, the value of the column that it maps to."""
    return {**record, **{name: record.get(column) for name, column in columns.items()}}


def check_mapping(record: Record, columns: Mapping[str, str], source: str) -> None:
    """Check that mapped columns exist in a file's first record, under names that a format has.

    Raises:
        DataError: naming the columns that are there.
    """
    known = sorted({*(c for wanted in _COLUMNS.values() for c in wanted), "safer_response_id", "better_response_id"})
    for name, column in columns.items():
        if name not in known:
            raise DataError(f"--map {name}={column}: no format has a column {name!r}; map one of {', '.join(known)}")
        if column not in record:
            raise DataError(f"{source}: no column {column!r} to map {name} to (has: {_names(record)}); check --map")


def _check_scores(record: Record) -> None:
    for sides in _SCORES:
        try:
            chosen, rejected = (float(record[column]) for column in sides)  # CSV has numbers as texts
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if chosen == rejected:
            raise Unusable("tie")


def _conversation(chosen: list[Turn], rejected: list[Turn], reading: Reading) -> Pair:
    if not chosen or not rejected or chosen[-1][0] != "assistant" or rejected[-1][0] != "assistant":
        raise Unusable("the last turn is not the assistant's")
    before = chosen[:-1]
    if before != rejected[:-1]:
        raise Unusable("the conversations differ before the last reply")
    opening = next((text for role, text in before if role == "user"), "")
    if not opening:
        raise Unusable("no prompt")
    alone = len(before) == 1
    if not alone and reading.multi_turn == "skip":
        raise Unusable("multi-turn")
    prompt = opening if alone else "\n\n".join(f"{_SPEAKERS[role]}: {text}" for role, text in before)
    for side, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns[-1][1]:
            raise Unusable(f"no {side} reply")
    return Pair(prompt, opening, chosen[-1][1], rejected[-1][1])


def _transcript(text: str) -> list[Turn]:
    start, *rest = _HH_TURN.split(text)
    if start.strip() or not rest:
        raise Unusable("no transcript of Human and Assistant")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [(roles[who], said.strip()) for who, said in zip(rest[::2], rest[1::2], strict=True)]


def _messages(value: Any, name: str) -> list[Turn]:
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise Unusable(f"{name} is no list of messages")
    turns = [(message.get("role"), message.get("content")) for message in value]
    if any(role not in _SPEAKERS or not isinstance(text, str) for role, text in turns):
        raise Unusable(f"{name} has a message without a known role or a text")
    return [(str(role), str(text).strip()) for role, text in turns]


def _choice(record: Record, column: str) -> int:
    """0 or 1, also as a text or a float: Parquet files often hold the numbers of a column with nulls so."""
    value = record.get(column)
    if isinstance(value, bool):
        raise Unusable(f"{column} is true or false, not 0 or 1")
    if value is None or not str(value).strip() or str(value).lower() == "nan":
        raise Unusable(f"no {column}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Unusable(f"{column} is no number") from None
    if number not in (0, 1):
        raise Unusable("tie")
    return int(number)


def _flag(value: Any) -> bool | None:
    """True or false, also as a text or a number; None if it says neither."""
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(str(value).lower())


def _text(record: Record, column: str, *, strip: bool = True) -> str:
    value = record.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unusable(f"no {column}")
    if not isinstance(value, str):
        raise Unusable(f"{column} is no text")
    return value.strip() if strip else value


def _names(record: Record) -> str:
    names: Sequence[str] = [str(name) for name in record]
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "none"
