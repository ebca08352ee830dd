"""What ratings say: agreement between raters and with the intended level, flags, and the replies in dispute.

The paper (arXiv 2410.19206) reports a kappa of 0.84 with human annotators on its own data; kappa depends on
the data, the raters and how often each level occurs, so numbers from here do not compare with it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from alignvec.data.review.kappa import Agreement, cohen, fleiss
from alignvec.data.review.ratings import Rating, load_ratings
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError

Why = Literal["raters differ", "against the intended level", "flagged"]
Reply = tuple[str, str]
_Table = Mapping[Reply, Mapping[str, Rating]]


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Compared(_Result):
    """Two raters, or one and the intended level.

    Attributes:
        pair: the rater whose levels are the table's rows, then the one (or `intended`) of its columns.
        agreement: share and Cohen's kappa on the replies with a level from both.
        left_out: replies without a level from both.
        confusion: how many replies have each pair of levels, in the order of the report's levels.
    """

    pair: tuple[str, str]
    agreement: Agreement
    left_out: int
    confusion: tuple[tuple[int, ...], ...]


class Together(_Result):
    """Three raters or more: mean share of agreeing pairs and Fleiss' kappa on the replies that all gave a level."""

    agreement: Agreement
    left_out: int


class Verdict(_Result):
    """A rater's level and flag; no level if the rater only flagged."""

    level: str | None
    flag: str | None


class Dispute(_Result):
    """A reply that somebody should look at; its texts are there if the rows were given."""

    id: str
    intended: str
    why: tuple[Why, ...]
    verdicts: dict[str, Verdict]
    query: str | None = None
    reply: str | None = None


class Report(_Result):
    """What ratings say.

    Attributes:
        levels: levels in the order of the confusion tables.
        unknown_levels: levels that raters chose and no row has; without rows: that no rated reply was written for.
        replies: replies that somebody rated.
        raters: raters to the number of replies they rated.
        model_raters: raters whose name starts with `model`.
        pairs: every pair of raters; none if there is one rater, as kappa needs two.
        together: all raters, if there are three or more.
        intended: each rater beside the level that the reply was written for.
        flags: rater to flag to how often.
        disputes: replies on which raters differ, or all are against the intended level, or that are flagged.
    """

    levels: tuple[str, ...]
    unknown_levels: tuple[str, ...]
    replies: int
    raters: dict[str, int]
    model_raters: tuple[str, ...]
    pairs: tuple[Compared, ...]
    together: Together | None
    intended: tuple[Compared, ...]
    flags: dict[str, dict[str, int]]
    disputes: tuple[Dispute, ...]


def load_all(paths: Sequence[Path]) -> tuple[list[Rating], int]:
    """Ratings of all files, and how many an equal rater and reply in a later file replaced.

    Raises:
        DataError: if a file cannot be read, or holds no rating.
    """
    found: dict[tuple[str, str, str], Rating] = {}
    total = 0
    for path in paths:
        ratings = load_ratings(path)
        if not ratings:
            raise DataError(f"{path}: no ratings in it; leave it out")
        total += len(ratings)
        found |= {(rating.rater, *rating.reply): rating for rating in ratings}
    return list(found.values()), total - len(found)


def report(ratings: Sequence[Rating], rows: Iterable[PreferenceRow] | None = None, *, seed: int = 0) -> Report:
    """Measure agreement; of each rater at most one rating a reply.

    Args:
        ratings: what raters said.
        rows: rows that the replies come from, for the texts beside the disputes.
        seed: of the resampling.

    Raises:
        DataError: if rows are given and a reply is not among them.
    """
    table: dict[Reply, dict[str, Rating]] = {}
    for rating in ratings:
        table.setdefault(rating.reply, {})[rating.rater] = rating
    raters = Counter(rating.rater for rating in ratings)
    names = sorted(raters)
    levels = _levels(ratings)
    texts = None if rows is None else {row.id: row for row in rows}
    known = {r.shown_level for r in ratings} if texts is None else {v for row in texts.values() for v in row.responses}
    return Report(
        levels=levels,
        unknown_levels=tuple(level for level in levels if level not in known),
        replies=len(table),
        raters={name: raters[name] for name in names},
        model_raters=tuple(name for name in names if name.lower().startswith("model")),
        pairs=tuple(_compare(table, levels, pair, seed) for pair in combinations(names, 2)),
        together=_together(table, levels, names, seed) if len(names) > 2 else None,
        intended=tuple(_compare(table, levels, (name, None), seed) for name in names),
        flags={name: dict(Counter(r.flag for r in ratings if r.rater == name and r.flag)) for name in names},
        disputes=_disputes(table, texts),
    )


def _levels(ratings: Sequence[Rating]) -> tuple[str, ...]:
    seen = dict.fromkeys(level for r in ratings for level in (r.shown_level, r.level) if level)
    return tuple(v for v in LEVELS if v in seen) + tuple(v for v in seen if v not in LEVELS)


def _compare(table: _Table, levels: Sequence[str], pair: tuple[str, str | None], seed: int) -> Compared:
    """Compare a rater with another, or with the intended level where the other is None."""
    first, second = pair
    used = [
        (row, levels.index(one), levels.index(other))
        for (row, shown), by in table.items()
        if (one := _level(by, first)) and (other := shown if second is None else _level(by, second))
    ]
    ids, ours, theirs = zip(*used, strict=True) if used else ((), (), ())
    cells = Counter(zip(ours, theirs, strict=True))
    rated = sum(first in by for by in table.values()) if second is None else len(table)
    return Compared(
        pair=(first, second or "intended"),
        agreement=cohen(ids, ours, theirs, len(levels), seed=seed),
        left_out=rated - len(used),
        confusion=tuple(tuple(cells[i, j] for j in range(len(levels))) for i in range(len(levels))),
    )


def _together(table: _Table, levels: Sequence[str], names: Sequence[str], seed: int) -> Together:
    full = [
        (row, Counter(chosen))
        for (row, _), by in table.items()
        if None not in (chosen := [_level(by, name) for name in names])
    ]
    counts = [[count[level] for level in levels] for _, count in full]
    return Together(agreement=fleiss([row for row, _ in full], counts, seed=seed), left_out=len(table) - len(full))


def _level(by: Mapping[str, Rating], rater: str) -> str | None:
    return by[rater].level if rater in by else None


def _disputes(table: _Table, texts: Mapping[str, PreferenceRow] | None) -> tuple[Dispute, ...]:
    found = []
    for (row, shown), by in sorted(table.items()):
        text = None
        if texts is not None:
            text = texts.get(row)
            if text is None or shown not in text.responses:
                raise DataError(f"row {row!r} was rated at level {shown!r} but --rows does not have it; name its file")
        chosen = {rating.level for rating in by.values()} - {None}
        why: tuple[Why, ...] = ("raters differ",) if len(chosen) > 1 else ()
        if len(chosen) == 1 and shown not in chosen:
            why += ("against the intended level",)
        if any(rating.flag for rating in by.values()):
            why += ("flagged",)
        if why:
            found.append(
                Dispute(
                    id=row,
                    intended=shown,
                    why=why,
                    verdicts={name: Verdict(level=by[name].level, flag=by[name].flag) for name in sorted(by)},
                    query=text and text.query,
                    reply=text and text.responses[shown],
                )
            )
    return tuple(found)
