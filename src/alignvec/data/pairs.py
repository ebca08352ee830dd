"""Preference orders such as `expert>generic>avoidance`, turned into (chosen, rejected) pairs of levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError


@dataclass(frozen=True)
class PreferenceOrder:
    """Levels ranked from most to least wanted; levels of one rank are equally wanted and make no pair."""

    ranks: tuple[tuple[str, ...], ...]

    @property
    def levels(self) -> tuple[str, ...]:
        """All levels, most wanted first."""
        return tuple(level for rank in self.ranks for level in rank)

    def reversed(self) -> "PreferenceOrder":
        """The same levels with the preference turned round."""
        return PreferenceOrder(self.ranks[::-1])

    def level_pairs(self) -> list[tuple[str, str]]:
        """Every (chosen level, rejected level), chosen ranked strictly above rejected."""
        return [(c, r) for above, below in combinations(self.ranks, 2) for c in above for r in below]

    def __str__(self) -> str:
        return ">".join("=".join(rank) for rank in self.ranks)


def parse_order(text: str) -> PreferenceOrder:
    """Parse `expert>generic>avoidance`, `generic>expert=avoidance`, ...

    Raises:
        DataError: if a level is missing or named twice, or nothing is preferred to anything.
    """
    ranks = tuple(tuple(level.strip() for level in rank.split("=")) for rank in text.split(">"))
    levels = [level for rank in ranks for level in rank]
    if not all(levels):
        raise DataError(f"preference order {text!r} has an empty level; write it like expert>generic>avoidance")
    if len(set(levels)) < len(levels):
        raise DataError(f"preference order {text!r} names a level twice; name each level once")
    if len(ranks) < 2:
        raise DataError(f"preference order {text!r} prefers nothing to anything; separate two ranks with '>'")
    return PreferenceOrder(ranks)


@dataclass(frozen=True)
class PreferencePair:
    """One DPO example: the reply to prefer and the reply to prefer it to, for one query."""

    row_id: str
    query: str
    chosen: str
    rejected: str
    chosen_level: str
    rejected_level: str


def preference_pairs(rows: Sequence[PreferenceRow], order: PreferenceOrder) -> list[PreferencePair]:
    """All pairs that `order` makes of `rows`, row by row.

    Raises:
        DataError: if a row lacks a level that the order names.
    """
    pairs = []
    for row in rows:
        require_levels(row, order)
        for chosen, rejected in order.level_pairs():
            pairs.append(
                PreferencePair(row.id, row.query, row.responses[chosen], row.responses[rejected], chosen, rejected)
            )
    return pairs


def require_levels(row: PreferenceRow, order: PreferenceOrder) -> None:
    """Check that `row` has a reply at every level of `order`.

    Raises:
        DataError: naming the row and the level it lacks.
    """
    for level in order.levels:
        if level not in row.responses:
            have = ", ".join(row.responses)
            raise DataError(f"row {row.id} has no {level!r} reply (has: {have}), which order {order} needs")
