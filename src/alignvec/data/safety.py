"""Requests that should be refused, and look-alikes that should not: one safe and one unsafe reply to each."""

import json
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from alignvec.data.lines import numbered_lines, parse_line
from alignvec.data.schema import PreferenceRow, Split, Text
from alignvec.errors import DataError
from alignvec.shipped import ROOT

SAFETY = ROOT / "data" / "safety" / "safety.jsonl"
"""File of the rows that come with the project."""
LEVELS = ("unsafe", "safe")
"""Levels of a safety row, lowest first."""
DOMAIN = "safety"
Kind = Literal["harmful", "benign"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_PAIRS = (LEVELS, ("rejected", "chosen"))


class SafetyReplies(BaseModel):
    """The two reference replies to a query.

    Attributes:
        safe: to a harmful request a refusal that helps; to a benign one the help that was asked for.
        unsafe: to a harmful request compliance; to a benign one an over-refusal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    safe: Text
    unsafe: Text


class SafetyRow(BaseModel):
    """A query that is harmful, or only looks so.

    Attributes:
        id: unique in its file.
        split: what the row is used for.
        kind: whether the request is harmful, or only looks so.
        topic: what it is about.
        query: what is asked.
        responses: the two replies.
        persona: who asks, the unit of intervals and splits; default: everyone asks once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    split: Split
    kind: Kind
    topic: Text
    query: Text
    responses: SafetyReplies
    persona: Text | None = None

    @property
    def asker(self) -> str:
        """Who asks: the persona, or the row's id."""
        return self.persona or self.id

    def preference(self) -> PreferenceRow:
        """The row as training and scoring take it, with the levels `unsafe` and `safe`."""
        return PreferenceRow(
            id=self.id,
            split=self.split,
            domain=DOMAIN,
            topic=self.topic,
            persona=self.asker,
            query=self.query,
            responses={level: getattr(self.responses, level) for level in LEVELS},
        )

    def refusals(self) -> dict[str, bool]:
        """Level to whether the reference reply at it refuses."""
        return {level: (level == "safe") == (self.kind == "harmful") for level in LEVELS}


def load_safety(
    path: Path = SAFETY, *, split: str | None = None, limit: int | None = None, kind: Kind = "harmful"
) -> list[SafetyRow]:
    """Rows of a file of safety rows, or of preference rows, checking all before any is selected.

    Preference rows need two levels: unsafe and safe, or rejected and chosen, as `alignvec data import` makes them.

    Args:
        path: file with one JSON object a line.
        split: keep only rows of this split.
        limit: keep at most this many rows of each kind, the first ones.
        kind: what the queries of preference rows are, which do not say it themselves.

    Raises:
        DataError: if the file cannot be read, a line is malformed, an id is used twice, a persona is in two splits,
            or no row is left.
    """
    lines: dict[str, int] = {}
    homes: dict[str, str] = {}
    rows = []
    for number, line in numbered_lines(path, "it needs one JSON object a line, see docs/safety.md"):
        row = _row(path, number, line, kind)
        if row.id in lines:
            raise DataError(f"{path}:{number}: id {row.id!r} was used on line {lines[row.id]}; make ids unique")
        if homes.setdefault(row.asker, row.split) != row.split:
            raise DataError(
                f"{path}:{number}: this persona is in split {homes[row.asker]!r} too; splits are by persona"
            )
        lines[row.id] = number
        rows.append(row)
    chosen = [row for row in rows if split in (None, row.split)]
    if not chosen:
        have = ", ".join(sorted({row.split for row in rows}))
        raise DataError(f"{path}: no rows with split={split} (splits there: {have}); choose another --split")
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit} leaves no rows; use 1 or more")
    kept = {id(row) for one in KINDS for row in [row for row in chosen if row.kind == one][:limit]}
    return [row for row in chosen if id(row) in kept]


def is_safety(line: str) -> bool:
    """Whether a line is meant as a safety row: it has a kind, and no domain."""
    try:
        record = json.loads(line)
    except (RecursionError, ValueError):
        return False
    return isinstance(record, dict) and "kind" in record and "domain" not in record


def _row(path: Path, number: int, line: str, kind: Kind) -> SafetyRow:
    try:
        return SafetyRow.model_validate_json(line)
    except ValidationError:
        if is_safety(line):
            parse_line(path, number, line, SafetyRow)  # raises, naming line and field
    row = parse_line(path, number, line, PreferenceRow)
    for unsafe, safe in _PAIRS:
        if set(row.responses) == {unsafe, safe}:
            replies = SafetyReplies(safe=row.responses[safe], unsafe=row.responses[unsafe])
            return SafetyRow(
                id=row.id, split=row.split, kind=kind, topic=row.topic, query=row.query, responses=replies,
                persona=row.persona,
            )  # fmt: skip
    raise DataError(
        f"{path}:{number}: levels {', '.join(row.responses)} do not say which reply is safe; "
        "name them safe and unsafe, or chosen and rejected"
    )
