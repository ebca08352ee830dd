"""What one knob says at every λ: replies to the first queries of a sweep, unpicked."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from alignvec.data.lines import numbered_lines, parse_line
from alignvec.data.unspaced import words as words_of
from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.sweep_record import Reply, SweepResult
from alignvec.evaluate.table import Table
from alignvec.vectors.strict import Strict

WIDTH = 54
"""Columns of a reply; with λ and level a table has 80 at most."""
CUT = "[...]"
"""Ends a reply that was cut."""


class Example(Strict):
    """A reply, cut at so many words, with the level that the judge gave the whole of it."""

    coefficient: float
    level: str
    degenerate: bool
    reply: str


class Asked(Strict):
    """A query with its replies, in ascending order of λ."""

    row: str
    query: str
    replies: tuple[Example, ...]


class Examples(Strict):
    """Replies to the first queries.

    Attributes:
        vector: name of the knob.
        words: most words of a reply that are kept.
        asked: the queries, in the order of the sweep.
    """

    vector: str
    words: int
    asked: tuple[Asked, ...]


def load_replies(path: Path) -> list[Reply]:
    """Read a sweep's replies.jsonl.

    Raises:
        DataError: if it cannot be read, is empty, or a line is damaged.
    """
    advice = "name the replies.jsonl that alignvec sweep --out wrote"
    return [parse_line(path, number, line, Reply) for number, line in numbered_lines(path, advice)]


def examples(
    replies: Sequence[Reply] | SweepResult, *, vector: str, count: int = 3, words: int = 60, low: float = -1.0,
    high: float = 1.0,
) -> Examples:  # fmt: skip
    """Replies to the first queries at every λ from `low` to `high`.

    Args:
        replies: of a sweep.
        vector: name of the knob.
        count: number of queries, the first ones; none is picked.
        words: most words of a reply that are kept.
        low: least λ.
        high: greatest λ.

    Raises:
        ConfigError: if count or words are less than one.
        DataError: if there is no reply in the range, or a query lacks one that another has.
    """
    if count < 1 or words < 1:
        raise ConfigError(f"{count} queries with {words} words each show nothing; use 1 or more of both")
    found = list(replies.replies if isinstance(replies, SweepResult) else replies)
    found = [reply for reply in found if low <= reply.coefficient <= high]
    if not found:
        raise DataError(f"no replies of {vector} at λ from {low:g} to {high:g}; sweep it with replies (--generate)")
    values = sorted({reply.coefficient for reply in found})
    asked = []
    for row in list(dict.fromkeys(reply.row for reply in found))[:count]:
        mine = {reply.coefficient: reply for reply in found if reply.row == row}
        if missing := [value for value in values if value not in mine]:
            raise DataError(f"{vector}: row {row} has no reply at λ = {missing[0]:g}; let the sweep go on to its end")
        query = mine[values[0]].query
        shown = tuple(
            Example(coefficient=v, level=mine[v].level, degenerate=mine[v].degenerate, reply=_cut(mine[v].reply, words))
            for v in values
        )
        asked.append(Asked(row=row, query=" ".join(query.split()), replies=shown))
    return Examples(vector=vector, words=words, asked=tuple(asked))


def tables(result: Examples) -> list[Table]:
    """One table a query: λ, the judge's level, the reply."""
    found = []
    for one in result.asked:
        rows = tuple(
            (
                f"{reply.coefficient:g}",
                f"{reply.level}, broken" if reply.degenerate else reply.level,
                "\n".join(f"{line:{WIDTH}}" for line in textwrap.wrap(reply.reply or "(empty)", WIDTH)),
            )
            for reply in one.replies
        )
        title = textwrap.fill(f"{result.vector}, at most {result.words} words: {one.query}", 80)
        found.append(Table(title=title, columns=("λ", "level", "reply"), rows=rows))
    return found


def _cut(text: str, words: int) -> str:
    """Text with single spaces, cut after so many words; words of scripts without spaces count as `unspaced` has it."""
    parts = text.split()
    total = 0
    for place, part in enumerate(parts):
        total += len(words_of(part))
        if total > words:
            return " ".join([*parts[:place], CUT])
    return " ".join(parts)
