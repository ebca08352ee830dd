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
PROBED = 8
"""Of so many blocks of a tensor the first is looked at for the realised coefficients."""


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
    probe = _Probe(low, other, len(overlap.added))
    for number, start in enumerate(range(0, entry.rows, step)):
        stop = min(start + step, entry.rows)
        total = reader.rows(entry, start, stop).float()
        probed = bool(added) and number % PROBED == 0
        before = total.clone() if probed else None
        rows = [next(stream) for stream in streams]
        if low.terms:
            total.addmm_(low.b[start:stop], low.a)
        for a, row in zip(other, rows, strict=True):
            total.add_(row, alpha=a.gate)
        found = rounded(total, dtype, rounding, generator)
        require_finite(found, entry.name)
        if before is not None:
            probe.observe(found.float() - before, rows, start, stop)
        yield found
    for stream in streams:
        next(stream, None)  # lets it check what it has read
    overlap += probe.scaled_to(entry.rows)


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
        if not added:
            return
        deltas = [a.delta for a in added if isinstance(a.delta, LowRankDelta)]
        self.a = torch.cat([d.a.float() for d in deltas])
        self.b = torch.cat([a.gate * d.b.float() for a, d in zip(added, deltas, strict=True)], dim=1)
        owner = torch.repeat_interleave(torch.arange(len(deltas)), torch.tensor([d.rank for d in deltas]))
        self._a_by_a = self.a.double() @ self.a.double().T
        self.owners = torch.nn.functional.one_hot(owner, len(deltas)).double()

    def inner(self, rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Inner product of each term with a dense change of rows `start` to `stop`, [terms]; ΔW is never formed."""
        return self.owners.T @ ((self.b[start:stop].T @ rows).double() * self.a.double()).sum(dim=1)

    def gram(self, start: int, stop: int) -> torch.Tensor:
        """Inner products of the terms with each other on these rows, [terms, terms], from the factors."""
        b = self.b[start:stop].double()
        return self.owners.T @ ((b.T @ b) * self._a_by_a) @ self.owners


class _Probe:
    """Compares, on one block of rows in `PROBED`, what was added with what should have been."""

    def __init__(self, low: _LowRank, other: Sequence[Added], terms: int) -> None:
        self._low, self._other = low, other
        self._order = low.terms + [a.term for a in other]
        self._rows = 0
        self._overlap = Overlap.zero(terms)

    def observe(self, change: torch.Tensor, rows: Sequence[torch.Tensor], start: int, stop: int) -> None:
        """Take in how rows `start` to `stop` changed; `rows` are those of the other deltas at gate 1."""
        k = len(self._low.terms)
        added, gram = torch.zeros(len(self._order)).double(), torch.zeros(len(self._order), len(self._order)).double()
        if k:
            added[:k] = self._low.inner(change, start, stop)
            gram[:k, :k] = self._low.gram(start, stop)
        for i, (a, row) in enumerate(zip(self._other, rows, strict=True)):
            added[k + i] = a.gate * _dot(change, row)
            if k:
                gram[k + i, :k] = gram[:k, k + i] = a.gate * self._low.inner(row, start, stop)
            for j in range(i + 1):
                gram[k + i, k + j] = gram[k + j, k + i] = a.gate * self._other[j].gate * _dot(row, rows[j])
        place = torch.tensor(self._order)
        self._overlap.added.index_add_(0, place, added)
        self._overlap.gram.index_put_((place[:, None], place[None]), gram, accumulate=True)
        self._rows += stop - start

    def scaled_to(self, rows: int) -> Overlap:
        """The inner products, as if every row had been looked at."""
        factor = rows / self._rows if self._rows else 0.0
        return Overlap(self._overlap.added * factor, self._overlap.gram * factor)


def _dot(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.dot(first.reshape(-1), second.reshape(-1)).item()
