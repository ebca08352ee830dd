"""Means with bootstrap intervals."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from alignvec.vectors.strict import Interval

RESAMPLES = 2000
DRAWN_AT_ONCE = 1 << 20
"""Draws that `bootstrap_rates` holds in memory."""


def bootstrap_mean(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Interval:
    """Mean of `values` with a 95 % percentile interval over resampled groups.

    Queries of one persona are alike, so whole personas are drawn, not queries (Efron and Tibshirani 1993, ch. 8).
    Of one group alone nothing can be drawn again, so its interval is unknown.

    Args:
        values: one number a query.
        groups: persona of each query.
        seed: of the resampling.

    Raises:
        ValueError: if there are no values, or not one group a value.
    """
    if not values or len(values) != len(groups):
        raise ValueError(f"{len(values)} values for {len(groups)} groups")
    names = sorted(set(groups))
    index = {name: i for i, name in enumerate(names)}
    totals, sizes = np.zeros(len(names)), np.zeros(len(names))
    for value, group in zip(values, groups, strict=True):
        totals[index[group]] += value
        sizes[index[group]] += 1
    draws = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    means = totals[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    return spread(np.concatenate([[np.mean(values)], means]), len(names))


def bootstrap_rate(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Interval:
    """`bootstrap_mean` of values that are 0 or 1.

    Where all groups agree, resampling cannot vary: as many groups of all 0 or of all 1 as may well have been missed are
    allowed for, which for a rate of 0 or 1 is the exact binomial interval (Clopper and Pearson 1934) with one trial a
    group.
    """
    return _unless_constant(bootstrap_mean(values, groups, seed=seed), len(set(groups)))


def spread_rate(values: npt.NDArray[np.float64], groups: int, fewest: int) -> Interval:
    """`spread` of a mean of rates; where no resampling differs, as `bootstrap_rate`.

    Args:
        values: the mean, and then its resamplings.
        groups: number of personas that were drawn from.
        fewest: of several strata, the number of personas in the one that has fewest.
    """
    return _unless_constant(spread(values, fewest), groups)


def bootstrap_rates(
    counts: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], *, seed: int = 0
) -> list[Interval]:
    """`bootstrap_rate` of several rates at once, of values that were only counted.

    Args:
        counts: how many values of each group are 1, [groups, rates]; groups in the order of their names.
        sizes: how many values each group has, [groups].
        seed: of the resampling.

    Raises:
        ValueError: if there are no values.
    """
    if not sizes.sum():
        raise ValueError("no values")
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    groups, draw = len(sizes), np.random.default_rng(seed)
    means = [counts.sum(axis=0, keepdims=True) / sizes.sum()]
    rows = max(1, DRAWN_AT_ONCE // groups)
    for start in range(0, RESAMPLES, rows):
        chosen = draw.integers(groups, size=(min(rows, RESAMPLES - start), groups))
        times = np.stack([np.bincount(row, minlength=groups) for row in chosen]).astype(np.float64)
        means.append(times @ counts / (times @ sizes)[:, None])
    return [_unless_constant(spread(column, groups), groups) for column in np.concatenate(means).T]


def _unless_constant(found: Interval, groups: int) -> Interval:
    if found.low is None or found.high is None or found.high - found.low > 1e-9:
        return found
    slack, value = highest_unseen(groups), found.value
    return Interval(value=value, low=(1 - slack) * value, high=value + slack * (1 - value))


def bootstrap_change(differences: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Interval:
    """`bootstrap_mean` of differences between values that are 0 or 1, so -1, 0 or 1.

    Where nothing changed, resampling cannot vary: as many changed groups either way as may well have been missed.
    """
    found = bootstrap_mean(differences, groups, seed=seed)
    if found.low is None or any(differences):
        return found
    slack = highest_unseen(len(set(groups)))
    return Interval(value=0.0, low=-slack, high=slack)


def highest_unseen(groups: int) -> float:
    """Upper end of the exact 95 % interval of a share that was 0 in so many trials (Clopper and Pearson 1934)."""
    return float(1 - 0.025 ** (1 / groups))


def persona_weights(groups: Sequence[str], strata: Sequence[str], *, seed: int = 0) -> npt.NDArray[np.float64]:
    """How often each value counts when whole personas are drawn again, [1 + RESAMPLES, values]; the first row is ones.

    For statistics that are no plain means: compute them for every row of weights at once, then take the `spread`.

    Args:
        groups: persona of each value.
        strata: domain of each value; personas are drawn within a domain.
        seed: of the resampling.
    """
    draw = np.random.default_rng(seed)
    weights = np.ones((1 + RESAMPLES, len(groups)))
    for stratum in dict.fromkeys(strata):
        own = [i for i, one in enumerate(strata) if one == stratum]
        names, index = np.unique([groups[i] for i in own], return_inverse=True)
        counts = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
        weights[1:, own] = counts[:, index]
    return weights


def spread(values: npt.NDArray[np.float64], groups: int) -> Interval:
    """A statistic with its 95 % percentile interval, which is unknown where fewer than two groups were drawn from.

    Args:
        values: the statistic, and then its resamplings.
        groups: number of personas that were drawn from; of several strata, of the one that has fewest.
    """
    if groups < 2:
        return Interval(value=float(values[0]), low=None, high=None)
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Interval(value=float(values[0]), low=float(low), high=float(high))
