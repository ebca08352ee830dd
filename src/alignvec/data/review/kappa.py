"""Agreement beyond chance, Cohen's (plain and weighted) and Fleiss' kappa, with 95 % intervals over resampled rows."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

DRAWS = 2000
Numbers = NDArray[np.float64]


class Estimate(BaseModel):
    """A number with its 95 % interval; a number that does not exist is missing, and the note says why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None


class Agreement(BaseModel):
    """How far raters agree.

    Attributes:
        replies: replies that were used.
        rows: rows that those replies belong to; replies of one row are resampled together.
        share: share of replies with one and the same level (of pairs of raters, where there are three or more).
        kappa: agreement beyond chance: 1 is perfect, 0 what chance gives.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    replies: int
    rows: int
    share: Estimate
    kappa: Estimate


_MISSING = Estimate(value=None, note="no reply has a level from all of them")
_NOTHING = Agreement(replies=0, rows=0, share=_MISSING, kappa=_MISSING)


def cohen(rows: Sequence[str], first: Sequence[int], second: Sequence[int], levels: int, *, seed: int) -> Agreement:
    """Agreement of two raters (Cohen 1960).

    Args:
        rows: row id of each reply.
        first: level that the first rater gave each reply, as a number below `levels`.
        second: the same for the second rater.
        levels: how many levels there are.
        seed: of the resampling.
    """
    if not rows:
        return _NOTHING
    cells = np.zeros((len(rows), levels, levels))
    cells[np.arange(len(rows)), list(first), list(second)] = 1
    return _agreement(rows, cells.reshape(len(rows), -1), _cohen, seed)


def cohen_quadratic(
    rows: Sequence[str], first: Sequence[int], second: Sequence[int], levels: int, *, seed: int
) -> Agreement:
    """Agreement of two raters on ordered levels, kappa weighted by the squared distance of their levels (Cohen 1968).

    Arguments as for `cohen`; the numbers of the levels are their order.
    """
    if not rows:
        return _NOTHING
    cells = np.zeros((len(rows), levels, levels))
    cells[np.arange(len(rows)), list(first), list(second)] = 1
    return _agreement(rows, cells.reshape(len(rows), -1), _cohen_quadratic, seed)


def fleiss(rows: Sequence[str], counts: Sequence[Sequence[int]], *, seed: int) -> Agreement:
    """Agreement of three raters or more (Fleiss 1971).

    Args:
        rows: row id of each reply.
        counts: of each reply, how many raters chose each level; every reply has equally many raters.
        seed: of the resampling.
    """
    if not rows:
        return _NOTHING
    table = np.asarray(counts, dtype=float)
    sums = np.hstack([np.ones((len(rows), 1)), np.square(table).sum(axis=1, keepdims=True), table])
    return _agreement(rows, sums, partial(_fleiss, int(table[0].sum())), seed)


# Both coefficients are functions of sums over replies, held in whole numbers, so that 1 and 0 / 0 come out exactly.
def _cohen(sums: Numbers) -> tuple[Numbers, Numbers]:
    size = round(sums.shape[-1] ** 0.5)
    table = sums.reshape(*sums.shape[:-1], size, size)
    n, same = table.sum(axis=(-2, -1)), np.trace(table, axis1=-2, axis2=-1)
    chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return same / n, (n * same - chance) / (n * n - chance)


def _cohen_quadratic(sums: Numbers) -> tuple[Numbers, Numbers]:
    size = round(sums.shape[-1] ** 0.5)
    table = sums.reshape(*sums.shape[:-1], size, size)
    n, same = table.sum(axis=(-2, -1)), np.trace(table, axis1=-2, axis2=-1)
    distance = np.square(np.subtract.outer(np.arange(size), np.arange(size)))
    chance = np.einsum("...i,ij,...j->...", table.sum(axis=-1), distance, table.sum(axis=-2))
    with np.errstate(invalid="ignore"):
        return same / n, (chance - n * (table * distance).sum(axis=(-2, -1))) / chance


def _fleiss(raters: int, sums: Numbers) -> tuple[Numbers, Numbers]:
    n, squares, totals = sums[..., 0], sums[..., 1], sums[..., 2:]
    chance = np.square(totals).sum(axis=-1)
    ratings = n * raters
    with np.errstate(invalid="ignore"):
        share = (squares - ratings) / (ratings * (raters - 1))
        return share, (share * ratings * ratings - chance) / (ratings * ratings - chance)


def _agreement(
    rows: Sequence[str], sums: Numbers, statistic: Callable[[Numbers], tuple[Numbers, Numbers]], seed: int
) -> Agreement:
    names, home = np.unique(np.asarray(rows), return_inverse=True)
    by_row = np.zeros((len(names), sums.shape[1]))
    np.add.at(by_row, home, sums)
    # Rows with equal sums are interchangeable: drawing how often each kind comes up is the same bootstrap, and its
    # memory does not grow with the rows.
    kinds, counts = np.unique(by_row, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(names), counts / len(names), size=DRAWS)
    share, kappa = statistic(by_row.sum(axis=0))
    drawn_share, drawn_kappa = statistic(draws @ kinds)
    return Agreement(
        replies=len(rows),
        rows=len(names),
        share=_share(float(share), drawn_share, len(names)),
        kappa=_kappa(float(kappa), drawn_kappa, float(share), len(names)),
    )


def _share(value: float, draws: Numbers, rows: int) -> Estimate:
    if value == 1.0:
        return Estimate(value=1.0, low=1 - _most(rows), high=1.0, note=f"exact interval, {rows} rows as trials")
    if value == 0.0:
        return Estimate(value=0.0, low=0.0, high=_most(rows), note=f"exact interval, {rows} rows as trials")
    return _resampled(value, draws)


def _kappa(value: float, draws: Numbers, share: float, rows: int) -> Estimate:
    if np.isnan(value):
        return Estimate(
            value=None, note="all ratings are of one level: agreement by chance is certain, so kappa is undefined"
        )
    if share == 1.0:
        return Estimate(
            value=value,
            note="full agreement has no bootstrap interval; share of rows with a disagreement: at most "
            f"{_most(rows):.1%} (upper end of the exact 95 % interval, Clopper-Pearson, {rows} rows)",
        )
    return _resampled(value, draws)


def _resampled(value: float, draws: Numbers) -> Estimate:
    defined = draws[~np.isnan(draws)]
    if not len(defined) or defined.min() == defined.max():
        return Estimate(value=value, note="no interval: the rows are too few or too alike to resample")
    low, high = np.percentile(defined, [2.5, 97.5])
    lost = len(draws) - len(defined)
    note = f"interval without {lost} of {len(draws)} draws, in which kappa is undefined" if lost else None
    return Estimate(value=value, low=float(low), high=float(high), note=note)


def _most(trials: int) -> float:
    """Upper end of the exact 95 % interval of a share of which no case was seen (Clopper and Pearson 1934)."""
    return float(1 - 0.025 ** (1 / trials))
