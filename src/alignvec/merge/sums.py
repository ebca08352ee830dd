"""One tensor of a merge: base + Σ gate·Δ in float32, rounded once, a block of rows at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from alignvec.errors import VectorError
from alignvec.merge.rounding import Rounding, rounded
from alignvec.merge.terms import Overlap
from alignvec.vectors.delta import Delta, LowRankDelta
from alignvec.vectors.tensorfile import Entry, Reader

BLOCK = 1 << 18
"""Entries of a block: in float32 it stays in a core's cache."""


@dataclass(frozen=True)
class Added:
    """What one term adds to a tensor.

    Attributes:
        term: index of the term.
        gate: what the delta is multiplied by.
        delta: the delta.
        density: share of entries that a trimming or dropping method keeps.
    """

    term: int
    gate: float
    delta: Delta
    density: float = 1.0


def summed(
    reader: Reader,
    entry: Entry,
    added: Sequence[Added],
    dtype: torch.dtype,
    rounding: Rounding,
    generator: torch.Generator,
    overlap: Overlap,
) -> Iterator[torch.Tensor]:
    """Blocks of rows of the merged tensor, in order.

    Args:
        reader: reads the base.
        entry: the base's tensor.
        added: what is added to it.
        overlap: gets the inner products of this tensor, complete after the last block.

    Raises:
        VectorError: if a sum is not finite in `dtype`, or a delta on disk is not what was saved.
    """
    step = max(BLOCK // max(entry.row_bytes // entry.dtype.itemsize, 1), 1)
    low = _LowRank([a for a in added if isinstance(a.delta, LowRankDelta)])
    other = [a for a in added if not isinstance(a.delta, LowRankDelta)]
    streams = [a.delta.stream(step) for a in other]
    for start in range(0, entry.rows, step):
        stop = min(start + step, entry.rows)
        before = reader.rows(entry, start, stop).float()
        rows = [next(stream) for stream in streams]
        total = low.plus(before, start, stop) if low.terms else before.clone()
        for a, row in zip(other, rows, strict=True):
            total.add_(row, alpha=a.gate)
        found = rounded(total, dtype, rounding, generator)
        change = found.float() - before
        require_finite(change, entry.name)
        low.observe(change, start, stop)
        for i, a in enumerate(other):
            flat = rows[i].reshape(-1)
            overlap.added[a.term] += a.gate * torch.dot(change.reshape(-1), flat).item()
            for j in range(i + 1):
                product = a.gate * other[j].gate * torch.dot(rows[j].reshape(-1), flat).item()
                overlap.gram[a.term, other[j].term] += product
                if i != j:
                    overlap.gram[other[j].term, a.term] += product
            if low.terms:
                cross = a.gate * low.inner(low.side(rows[i], start, stop))
                overlap.gram[a.term].index_add_(0, low.terms_index, cross)
                overlap.gram[:, a.term].index_add_(0, low.terms_index, cross)
        yield found
    for stream in streams:
        next(stream, None)  # lets it check what it has read
    if low.terms:
        overlap.added.index_add_(0, low.terms_index, low.inner(low.seen))
        for i, row in enumerate(low.gram()):
            overlap.gram[low.terms[i]].index_add_(0, low.terms_index, row)


def require_finite(found: torch.Tensor, name: str) -> None:
    """Check what a merge has made of the tensor `name`.

    Raises:
        VectorError: if a value is infinite or no number.
    """
    if not torch.isfinite(found.sum()) and not torch.isfinite(found).all():
        raise VectorError(
            f"tensor {name} is not finite after merging: the coefficients are too large for the dtype, or the base or "
            "a vector is damaged; use smaller coefficients or --dtype float32, and run alignvec verify"
        )


class _LowRank:
    """The low-rank terms of one tensor, side by side: gates folded into b, rows of a owned by a term each."""

    def __init__(self, added: Sequence[Added]) -> None:
        self.terms = [a.term for a in added]
        self.terms_index = torch.tensor(self.terms, dtype=torch.int64)
        if not added:
            return
        deltas = [a.delta for a in added if isinstance(a.delta, LowRankDelta)]
        self.a = torch.cat([d.a.float() for d in deltas])
        self.b = torch.cat([a.gate * d.b.float() for a, d in zip(added, deltas, strict=True)], dim=1)
        ranks = torch.tensor([d.rank for d in deltas])
        owner = torch.repeat_interleave(torch.arange(len(deltas)), ranks)
        self.owners = torch.nn.functional.one_hot(owner, len(deltas)).double()
        self.seen = torch.zeros_like(self.a)

    def plus(self, before: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """`before` plus the terms, for rows `start` to `stop`."""
        return torch.addmm(before, self.b[start:stop], self.a)

    def side(self, rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """bᵀ rows, [R, in]; its product with a, entry by entry, sums to inner products."""
        return self.b[start:stop].T @ rows

    def observe(self, change: torch.Tensor, start: int, stop: int) -> None:
        """Take in how rows `start` to `stop` really changed."""
        if self.terms:
            self.seen.addmm_(self.b[start:stop].T, change)

    def inner(self, side: torch.Tensor) -> torch.Tensor:
        """Inner product of each term with what `side` was taken of, [terms]."""
        return self.owners.T @ (side.double() * self.a.double()).sum(dim=1)

    def gram(self) -> torch.Tensor:
        """Inner products of the terms with each other, [terms, terms], from the factors."""
        a, b = self.a.double(), self.b.double()
        return self.owners.T @ ((b.T @ b) * (a @ a.T)) @ self.owners
