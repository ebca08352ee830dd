"""Deltas that stay on disk: rows are read when they are asked for, so that a vector of any size fits in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import xxhash

from alignvec.errors import VectorError
from alignvec.vectors.delta import Delta
from alignvec.vectors.tensorfile import Entry, Reader, tensor_bytes


@dataclass(frozen=True, eq=False)
class StoredDelta(Delta):
    """A dense delta in a safetensors file, times a factor.

    Attributes:
        digest: xxh3 hash of its bytes, if it is known; checked by `stream`.
    """

    reader: Reader
    entry: Entry
    factor: float = 1.0
    digest: str | None = None

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return torch.Size(self.entry.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype in the file."""
        return self.entry.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.entry.end - self.entry.begin

    def scaled(self, factor: float) -> "StoredDelta":
        """The delta times `factor`."""
        return replace(self, factor=self.factor * factor)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows of the delta, read now, in float32."""
        return self._times_factor(self.reader.rows(self.entry, start, stop))

    def stream(self, step: int) -> Iterator[torch.Tensor]:
        """All rows in order, `step` at a time.

        Raises:
            VectorError: after the last, if the bytes are not those that were saved.
        """
        digest: Any = xxhash.xxh3_128()
        for start in range(0, self.entry.rows, step):
            found = self.reader.rows(self.entry, start, min(start + step, self.entry.rows))
            if self.digest is not None:
                digest.update(tensor_bytes(found))
            yield self._times_factor(found)
        if self.digest is not None and digest.hexdigest() != self.digest:
            raise VectorError(f"{self.entry.path}: tensor {self.entry.name} is damaged (not its hash); copy it again")

    def dense(self) -> torch.Tensor:
        """The whole delta in float32.

        Raises:
            VectorError: if the bytes are not those that were saved.
        """
        blocks = [*self.stream(max(self.entry.rows, 1))]
        return blocks[0] if blocks else self.rows(0, 0)

    def _times_factor(self, found: torch.Tensor) -> torch.Tensor:
        found = found.float()
        return found if self.factor == 1.0 else found * self.factor


@dataclass(frozen=True, eq=False)
class DifferenceDelta(Delta):
    """θ_aligned − θ_base of one tensor, subtracted in float32 when it is asked for, times a factor.

    Attributes:
        before: where the base's tensor is.
        after: where the aligned model's is; of more rows than the base has only the first are read, and rows that only
            the base has do not change.
        dtype: smallest dtype that holds the difference exactly.
    """

    before: tuple[Reader, Entry]
    after: tuple[Reader, Entry]
    dtype: torch.dtype = torch.float32
    factor: float = 1.0

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight in the base."""
        return torch.Size(self.before[1].shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the difference takes in `dtype`."""
        return self.shape.numel() * self.dtype.itemsize

    def scaled(self, factor: float) -> "DifferenceDelta":
        """The delta times `factor`; it no longer fits a smaller dtype exactly."""
        return replace(self, factor=self.factor * factor, dtype=torch.float32)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows of the difference, read and subtracted now, in float32."""
        shared = min(self.after[1].rows, stop)
        found = self.before[0].rows(self.before[1], start, stop).float().neg_()
        if shared > start:
            found.view(stop - start, -1)[: shared - start].add_(
                self.after[0].rows(self.after[1], start, shared).float().view(shared - start, -1)
            )
        if shared < stop:
            found[max(shared - start, 0) :] = 0.0
        return found if self.factor == 1.0 else found.mul_(self.factor)
