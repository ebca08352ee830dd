"""Means with bootstrap intervals."""

from collections.abc import Sequence

import numpy as np

from alignvec.vectors.card import Interval

RESAMPLES = 2000


def bootstrap_mean(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Interval:
    """Mean of `values` with a 95 % percentile interval over resampled groups.

    Queries of one persona are alike, so whole personas are drawn, not queries (Efron and Tibshirani 1993, ch. 8).

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
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(value=float(np.mean(values)), low=float(low), high=float(high))


def bootstrap_rate(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Interval:
    """`bootstrap_mean` of values that are 0 or 1.

    Where all agree, resampling cannot vary, so the interval is the exact binomial one (Clopper and Pearson 1934) with
    one trial a group.
    """
    found = bootstrap_mean(values, groups, seed=seed)
    slack = 1 - 0.025 ** (1 / len(set(groups)))
    if found.value == 1.0:
        return Interval(value=1.0, low=1 - slack, high=1.0)
    return Interval(value=0.0, low=0.0, high=slack) if found.value == 0.0 else found
