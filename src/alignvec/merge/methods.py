"""Merge methods by name: how the deltas of several knobs become one delta, tensor by tensor."""

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from alignvec.errors import ConfigError

Method: TypeAlias = Callable[[Tensor, Tensor, Tensor, bool, torch.Generator], Tensor]
"""(deltas [k, *shape] float32, weights [k] float64, densities [k] float64, normalize, generator) -> [*shape] float32.

`deltas` is scratch space: a method may overwrite it, so that its peak is the k deltas and about two tensors more.
Weights are the coefficients λ at this tensor, densities shares in (0, 1].
"""

METHODS: Final[dict[str, Method]] = {}
"""The registered methods; a new one is a function under `@method(name)`."""


def method(name: str) -> Callable[[Method], Method]:
    """Register a merge method under a name that recipes can give."""

    def register(function: Method) -> Method:
        METHODS[name] = function
        return function

    return register


@method("sum")
def weighted_sum(
    deltas: Tensor, weights: Tensor, densities: Tensor, normalize: bool, generator: torch.Generator
) -> Tensor:
    """Σ λ·Δ (task arithmetic, arXiv 2212.04089); normalized: divided by Σ λ. Densities are not used.

    Raises:
        ConfigError: if it is to be normalized and the coefficients do not add up to more than 0.
    """
    total = torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights.tolist(), strict=True):
        total.add_(delta, alpha=weight)
    return total.div_(_total(weights)) if normalize else total


@method("ties")
def ties(deltas: Tensor, weights: Tensor, densities: Tensor, normalize: bool, generator: torch.Generator) -> Tensor:
    """Trim, elect a sign, add up what agrees with it (TIES, arXiv 2306.01708, algorithm 1).

    Trim keeps the ⌊density · n⌋ largest magnitudes of each delta, at least one. The elected sign of a value is that of
    Σ λ·Δ over the trimmed deltas. Merged is Σ λ·Δ over those whose λ·Δ has that sign; normalized: divided by their
    Σ |λ|, which is the paper's disjoint mean if all λ are equal.

    Trims each tensor by itself (the paper: the whole delta at once), and where the sum is exactly 0 the sign is + (the
    paper's formula: nothing is merged); both as mergekit does. mergekit divides by Σ λ, which differs from Σ |λ| only
    where a negative λ agrees.
    """
    for delta, density in zip(deltas, densities.tolist(), strict=True):
        _trim(delta, density)
    return _agreeing(deltas, weights, normalize)


@method("dare")
def dare(deltas: Tensor, weights: Tensor, densities: Tensor, normalize: bool, generator: torch.Generator) -> Tensor:
    """Drop each value with probability 1 − density, divide the rest by density, add up (DARE, arXiv 2311.03099).

    The mean over seeds is the plain sum. Normalized: divided by Σ λ. mergekit's `dare_linear` draws other values, and
    rescales so that the sum of magnitudes of each delta stays exactly what it was.

    Raises:
        ConfigError: if it is to be normalized and the coefficients do not add up to more than 0.
    """
    _drop(deltas, densities, generator)
    return weighted_sum(deltas, weights, densities, normalize, generator)


@method("dare-ties")
def dare_ties(
    deltas: Tensor, weights: Tensor, densities: Tensor, normalize: bool, generator: torch.Generator
) -> Tensor:
    """Drop and rescale as `dare` (arXiv 2311.03099, section 4.3), then elect and add up as `ties`, without trimming."""
    _drop(deltas, densities, generator)
    return _agreeing(deltas, weights, normalize)


def _total(weights: Tensor) -> float:
    total = float(weights.sum())
    if total < 1e-8 and weights.any():
        raise ConfigError(
            f"normalize divides by the sum of the coefficients, which is {total:g}; it must be above 0: "
            "turn normalize off, and use scale"
        )
    return total if total > 0 else 1.0


def _drop(deltas: Tensor, densities: Tensor, generator: torch.Generator) -> None:
    for delta, density in zip(deltas, densities.tolist(), strict=True):
        if density < 1:
            kept = torch.empty_like(delta, dtype=torch.bool).bernoulli_(density, generator=generator)
            delta.mul_(kept).div_(density)


def _trim(delta: Tensor, density: float) -> None:
    flat = delta.view(-1)
    kept = max(1, int(density * flat.numel()))
    if kept >= flat.numel():
        return
    # numpy selects within one copy; torch.kthvalue and topk need three to five times the tensor, no faster
    ordered = flat.abs().numpy()
    ordered.partition(-kept)
    threshold = float(ordered[-kept])
    del ordered
    magnitudes = flat.abs()
    surplus = int((magnitudes >= threshold).sum()) - kept
    if surplus and threshold > 0:
        flat[(magnitudes == threshold).nonzero()[-surplus:]] = 0
    flat.masked_fill_(magnitudes < threshold, 0)


def _agreeing(deltas: Tensor, weights: Tensor, normalize: bool) -> Tensor:
    signed = weights.tolist()
    for delta, weight in zip(deltas, signed, strict=True):
        delta.mul_(weight)
    positive = deltas.sum(0) >= 0
    merged = torch.zeros_like(deltas[0])
    divisor = torch.zeros_like(merged) if normalize else None
    for delta, weight in zip(deltas, signed, strict=True):
        agrees = torch.where(positive, delta > 0, delta < 0)
        merged.add_(delta.mul_(agrees))
        if divisor is not None:
            divisor.add_(agrees, alpha=abs(weight))
    return merged if divisor is None else merged.div_(divisor.masked_fill_(divisor == 0, 1))
