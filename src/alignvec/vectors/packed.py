"""Smaller forms of a dense delta: a few entries (sparse), or one bit an entry (signs)."""

from dataclasses import dataclass, replace

import torch

from alignvec.vectors.delta import Delta


@dataclass(frozen=True, eq=False)
class SparseDelta(Delta):
    """ΔW that is zero but for some entries, row by row.

    Attributes:
        values: [kept], row after row.
        columns: [kept], place of each value in its row (later dimensions flattened).
        counts: [rows], how many values each row has.
        size: shape of the weight.
    """

    values: torch.Tensor
    columns: torch.Tensor
    counts: torch.Tensor
    size: tuple[int, ...]

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return torch.Size(self.size)

    @property
    def nbytes(self) -> int:
        """Bytes of values and their places."""
        return self.values.nbytes + self.columns.nbytes + self.counts.nbytes

    def scaled(self, factor: float) -> "SparseDelta":
        """The delta times `factor`."""
        return replace(self, values=self.values.float() * factor)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows with their zeros, in float32."""
        ends = self.counts.cumsum(0)
        begin = int(ends[start - 1]) if start else 0
        end = int(ends[stop - 1]) if stop else 0
        rows = torch.repeat_interleave(self.counts[start:stop].to(torch.int64))
        found = torch.zeros(stop - start, self.shape[1:].numel())
        found[rows, self.columns[begin:end].to(torch.int64)] = self.values[begin:end].float()
        return found.view(stop - start, *self.size[1:])


@dataclass(frozen=True, eq=False)
class SignDelta(Delta):
    """ΔW = scale · (±1), one bit an entry (BitDelta, arXiv 2402.10193).

    Attributes:
        bits: [rows, ceil(columns / 8)], uint8; bit j of a byte is 1 where the entry is not negative.
        scale: mean of |ΔW|, a scalar.
        size: shape of the weight.
    """

    bits: torch.Tensor
    scale: torch.Tensor
    size: tuple[int, ...]

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return torch.Size(self.size)

    @property
    def nbytes(self) -> int:
        """Bytes of bits and scale."""
        return self.bits.nbytes + self.scale.nbytes

    def scaled(self, factor: float) -> "SignDelta":
        """The delta times `factor`."""
        return replace(self, scale=self.scale.float() * factor)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows of ± scale, in float32."""
        columns = self.shape[1:].numel()
        bits = (self.bits[start:stop, :, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        signs = bits.view(stop - start, 8 * self.bits.shape[1])[:, :columns].float().mul_(2.0).sub_(1.0)
        return signs.mul_(self.scale.float()).view(stop - start, *self.size[1:])


def to_sparse(value: torch.Tensor, kept: torch.Tensor) -> SparseDelta:
    """The entries of `value` where `kept` is true, both [rows, ...]."""
    flat, mask = value.reshape(value.shape[0], -1), kept.reshape(value.shape[0], -1)
    narrow = torch.uint16 if flat.shape[1] <= 1 << 16 else torch.int32
    columns = mask.nonzero()[:, 1]
    return SparseDelta(flat[mask], columns.to(narrow), mask.sum(dim=1).to(torch.int32), tuple(value.shape))


def to_signs(value: torch.Tensor) -> SignDelta:
    """Signs of `value`, [rows, ...], and the scale that leaves the least squared error."""
    flat = value.reshape(value.shape[0], -1).float()
    bits = torch.nn.functional.pad((flat >= 0).to(torch.uint8), (0, -flat.shape[1] % 8))
    weights = (1 << torch.arange(8)).to(torch.uint8)
    packed = (bits.view(flat.shape[0], -1, 8) * weights).sum(dim=2, dtype=torch.uint8)
    return SignDelta(packed, flat.abs().mean(), tuple(value.shape))
