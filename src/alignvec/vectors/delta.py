"""A delta: what is added to one weight at coefficient 1, as low-rank factors, a dense tensor, or in a smaller form."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch

from alignvec.errors import VectorError


class Delta(ABC):
    """What is added to one weight at coefficient 1, in whatever form it is kept."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Shape of the weight."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the tensors that hold it, as they are kept."""

    @abstractmethod
    def scaled(self, factor: float) -> "Delta":
        """The delta times `factor`."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop` (of the first dimension; a scalar has one) of ΔW, in float32."""

    def stream(self, step: int) -> Iterator[torch.Tensor]:
        """All rows in order, `step` at a time."""
        rows = self.shape[0] if self.shape else 1
        for start in range(0, rows, step):
            yield self.rows(start, min(start + step, rows))

    def dense(self) -> torch.Tensor:
        """ΔW in float32."""
        return self.rows(0, self.shape[0] if self.shape else 1)


@dataclass(frozen=True, eq=False)
class LowRankDelta(Delta):
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

    @property
    def nbytes(self) -> int:
        """Bytes of both factors."""
        return self.a.nbytes + self.b.nbytes

    def scaled(self, factor: float) -> "LowRankDelta":
        """The delta times `factor` (folded into `b`)."""
        return LowRankDelta(self.a, self.b * factor)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows of b @ a, in float32."""
        return self.b[start:stop].float() @ self.a.float()


@dataclass(frozen=True, eq=False)
class DenseDelta(Delta):
    """ΔW as a tensor of the weight's shape."""

    value: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return self.value.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.value.nbytes

    def scaled(self, factor: float) -> "DenseDelta":
        """The delta times `factor`."""
        return DenseDelta(self.value * factor)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows of the tensor, in float32."""
        return (self.value[start:stop] if self.value.ndim else self.value).float()


@dataclass(frozen=True, eq=False)
class SumDelta(Delta):
    """Sum of deltas of one shape, added up in float32 when it is asked for, so that parts on disk stay there."""

    parts: tuple[Delta, ...]

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return self.parts[0].shape

    @property
    def nbytes(self) -> int:
        """Bytes that the sum takes in float32."""
        return self.shape.numel() * torch.float32.itemsize

    def scaled(self, factor: float) -> "SumDelta":
        """The delta times `factor`."""
        return SumDelta(tuple(part.scaled(factor) for part in self.parts))

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows of the sum, in float32."""
        return reduce(torch.add, (part.rows(start, stop) for part in self.parts))

    def stream(self, step: int) -> Iterator[torch.Tensor]:
        """All rows in order, `step` at a time, each part streamed, so that parts on disk are checked."""
        for blocks in zip(*(part.stream(step) for part in self.parts), strict=True):
            yield reduce(torch.add, blocks)

    def dense(self) -> torch.Tensor:
        """The whole sum in float32; parts on disk are checked."""
        return reduce(torch.add, (part.dense() for part in self.parts))


def add(first: Delta, second: Delta) -> Delta:
    """Sum of two deltas of one weight: exact by concatenated factors where both are low-rank, else in float32.

    Concatenated factors of more rank than the weight can have are factored anew. Dense tensors are added here, other
    forms when the sum is asked for.

    Raises:
        VectorError: if the shapes differ.
    """
    if first.shape != second.shape:
        raise VectorError(f"cannot add deltas of shapes {list(first.shape)} and {list(second.shape)}")
    if isinstance(first, LowRankDelta) and isinstance(second, LowRankDelta):
        total = LowRankDelta(torch.cat([first.a, second.a]), torch.cat([first.b, second.b], dim=1))
        return refactored(total) if total.rank > min(total.shape) else total
    if isinstance(first, DenseDelta) and isinstance(second, DenseDelta):
        return DenseDelta(first.dense() + second.dense())
    return SumDelta((first, second))


def refactored(delta: LowRankDelta, *, rank: int | None = None, energy: float = 1.0) -> LowRankDelta:
    """The same ΔW, or its best approximation, by no more rank than needed.

    QR of both factors and the singular values of what is left between them, in float64; ΔW is never formed. The
    singular values are split evenly over both factors.

    Args:
        delta: factors of any rank.
        rank: keep at most this many singular values.
        energy: keep as few as hold this share of ‖ΔW‖²; 1 drops only what is zero to working precision.
    """
    q_b, r_b = torch.linalg.qr(delta.b.double())
    q_a, r_a = torch.linalg.qr(delta.a.double().T)
    u, s, v = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    kept = rank_for(s, energy, max(delta.shape), s.dtype)
    kept = kept if rank is None else min(kept, rank)
    root = s[:kept].sqrt()
    return LowRankDelta(
        (root[:, None] * (q_a @ v[:kept].T).T).to(delta.a.dtype).contiguous(),
        ((q_b @ u[:, :kept]) * root).to(delta.b.dtype).contiguous(),
    )


def rank_for(values: torch.Tensor, energy: float, size: int, dtype: torch.dtype) -> int:
    """How many of the descending singular values hold `energy` of their squares' sum; at least one.

    At energy 1: those above size · eps(dtype) · the largest.
    """
    if energy >= 1.0:
        return max(int((values > values[:1] * torch.finfo(dtype).eps * size).sum()), 1)
    cumulative = values.square().cumsum(0)
    return int((cumulative < energy * cumulative[-1]).sum()) + 1
