"""A delta: what is added to one weight at coefficient 1, either as low-rank factors or as a dense tensor."""

from dataclasses import dataclass
from typing import TypeAlias

import torch

from alignvec.errors import VectorError


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """ΔW = b @ a, with a [rank, in] and b [out, rank]."""

    a: torch.Tensor
    b: torch.Tensor

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1]:
            raise VectorError(f"factors of shapes {list(self.a.shape)} and {list(self.b.shape)} do not fit together")

    @property
    def rank(self) -> int:
        """Number of rows of `a`."""
        return self.a.shape[0]

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight, [out, in]."""
        return torch.Size((self.b.shape[0], self.a.shape[1]))

    def scaled(self, factor: float) -> "LowRankDelta":
        """The delta times `factor` (folded into `b`)."""
        return LowRankDelta(self.a, self.b * factor)

    def dense(self) -> torch.Tensor:
        """ΔW in float32, [out, in]."""
        return self.b.float() @ self.a.float()


@dataclass(frozen=True, eq=False)
class DenseDelta:
    """ΔW as a tensor of the weight's shape."""

    value: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return self.value.shape

    def scaled(self, factor: float) -> "DenseDelta":
        """The delta times `factor`."""
        return DenseDelta(self.value * factor)

    def dense(self) -> torch.Tensor:
        """ΔW in float32."""
        return self.value.float()


Delta: TypeAlias = LowRankDelta | DenseDelta


def add(first: Delta, second: Delta) -> Delta:
    """Sum of two deltas of one weight: exact by concatenated factors where both are low-rank, else dense in float32.

    Raises:
        VectorError: if the shapes differ.
    """
    if first.shape != second.shape:
        raise VectorError(f"cannot add deltas of shapes {list(first.shape)} and {list(second.shape)}")
    if isinstance(first, LowRankDelta) and isinstance(second, LowRankDelta):
        return LowRankDelta(torch.cat([first.a, second.a]), torch.cat([first.b, second.b], dim=1))
    return DenseDelta(first.dense() + second.dense())
