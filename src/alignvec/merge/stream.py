"""A merged checkpoint written as a stream: rows are read, summed, rounded once and written, and then forgotten.

Memory holds a few blocks of rows for every worker, whatever the model's size, and the vectors' low-rank factors.
The base's shards, tensor order and names are kept.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
import xxhash

from alignvec.errors import StorageError, VectorError
from alignvec.files import storage_errors
from alignvec.merge.methods import METHODS
from alignvec.merge.rounding import Rounding, rounded
from alignvec.merge.staging import Staging
from alignvec.merge.sums import Added, require_finite, summed
from alignvec.merge.terms import Overlap, Term
from alignvec.vectors.checkpoint import Checkpoint, tied_twin
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.tensorfile import CODES, Entry, encode_header, tensor_bytes
from alignvec.vectors.vector import check_targets

_COPIED = 1 << 22
"""Bytes of an untouched tensor that are copied at once."""


@dataclass(frozen=True)
class Numerics:
    """How sums are made and stored.

    Attributes:
        method: name in `methods.METHODS`.
        normalize: see the method.
        scale: the merged delta is multiplied by it.
        dtype: of every floating-point tensor in the result; None keeps each tensor's own.
        rounding: `nearest` or `stochastic`.
        seed: of stochastic rounding and of methods that draw.
    """

    method: str = "sum"
    normalize: bool = False
    scale: float = 1.0
    dtype: torch.dtype | None = None
    rounding: Rounding = "nearest"
    seed: int = 0

    @property
    def plain(self) -> bool:
        """Whether the merge is the plain sum, which needs no whole tensor at once."""
        return self.method == "sum" and not self.normalize and self.scale == 1.0


@dataclass(frozen=True)
class _Slot:
    """Where a tensor of the result goes: an open file, the first byte, and the dtype if it is a floating-point one."""

    entry: Entry
    file: int
    begin: int
    dtype: torch.dtype | None

    @property
    def size(self) -> int:
        """Bytes in the result."""
        return _size(self.entry, self.dtype)


def write_shards(
    base: Checkpoint,
    terms: Sequence[Term],
    numerics: Numerics,
    place: Staging,
    *,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Overlap:
    """Write every shard of the result into a staging folder, but for the tensors that are done already.

    Args:
        workers: tensors at work at once; default: one a core, or one at all for methods that hold whole tensors.
        advance: told the bytes written, tensor by tensor.

    Returns:
        Inner products for the realised coefficients (zero for methods other than the plain sum).

    Raises:
        VectorError: if a sum is not finite, or a delta is damaged or does not fit the base.
        StorageError: if the disk is full.
    """
    added = _by_tensor(base, terms, complete=numerics.normalize)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or (cores if numerics.plain else 1)
    threads = torch.get_num_threads()

    def work(slot: _Slot) -> None:
        _write_tensor(base, slot, added.get(slot.entry.name, []), len(terms), numerics, place)
        advance(slot.size)

    with ExitStack() as stack:
        slots = [
            slot
            for path, (entries, metadata) in base.files.items()
            for slot in _open_shard(stack, place.folder / path.name, entries, metadata, numerics.dtype)
        ]
        waiting = [slot for slot in slots if slot.entry.name not in place.done]
        needed, total = sum(slot.size for slot in waiting), sum(slot.size for slot in slots)
        _require_space(place.folder, needed, total - needed)
        advance(total - needed)
        pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(threads // count, 1),))
        try:
            for future in [pool.submit(work, slot) for slot in waiting]:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
    overlap = Overlap.zero(len(terms))
    for name in base.entries:  # in this order, whoever was done first, so that the figures are the same every time
        overlap += Overlap.from_json(place.done[name])
    return overlap


def result_bytes(base: Checkpoint, dtype: torch.dtype | None) -> int:
    """Bytes of all tensors of the result."""
    return sum(_size(entry, _stored_dtype(entry, dtype)) for entry in base.entries.values())


def _by_tensor(base: Checkpoint, terms: Sequence[Term], *, complete: bool) -> dict[str, list[Added]]:
    """What is added to each tensor that changes; `complete`: with a zero for a term that leaves it, whose λ counts."""
    found: dict[str, list[Added]] = {}
    for index, term in enumerate(terms):
        check_targets(term.vector, term.deltas, base.entries)
        for name, delta in term.deltas.items():
            if not base.entries[name].is_float:
                raise VectorError(
                    f"vector {term.vector!r} changes {name}, whose dtype {base.entries[name].code} is not one to add in"
                )
            if gate := term.gates[name]:
                found.setdefault(name, []).append(Added(index, gate, delta, term.density))
    if complete:
        for name, some in found.items():
            for index in set(range(len(terms))) - {a.term for a in some}:
                zero = DenseDelta(torch.zeros(()).expand(base.entries[name].shape))
                some.append(Added(index, terms[index].gates[name], zero, terms[index].density))
    for name in base.entries:
        twin = tied_twin(base, name)
        if twin and name in found:
            raise VectorError(f"{name} is tied to {twin} in this base; a vector must change {twin} alone")
        if twin and twin in found:
            found[name] = found[twin]  # a copy of the embedding stays one
    return found


def _write_tensor(
    base: Checkpoint, slot: _Slot, added: Sequence[Added], terms: int, numerics: Numerics, place: Staging
) -> None:
    entry, overlap = slot.entry, Overlap.zero(terms)
    if slot.dtype is None or (not added and slot.dtype == entry.dtype):
        for start in range(0, entry.size, _COPIED):
            stop = min(start + _COPIED, entry.size)
            _write(slot, start, base.reader.raw(entry, start, stop), place.folder)
    else:
        drawn = tied_twin(base, entry.name) or entry.name  # a copy of the embedding draws as the embedding does
        generator = torch.Generator().manual_seed(xxhash.xxh64_intdigest(f"{numerics.seed} {drawn}".encode()) >> 1)
        if numerics.plain or not added:
            blocks = summed(base.reader, entry, added, slot.dtype, numerics.rounding, generator, overlap)
        else:
            blocks = _by_method(base, entry, added, slot.dtype, numerics, generator)
        offset = 0
        for block in blocks:
            _write(slot, offset, block, place.folder)
            offset += block.nbytes
    place.record(entry.name, overlap.to_json())


def _by_method(
    base: Checkpoint,
    entry: Entry,
    added: Sequence[Added],
    dtype: torch.dtype,
    numerics: Numerics,
    generator: torch.Generator,
) -> Iterator[torch.Tensor]:
    deltas = torch.stack([rows for a in added for rows in a.delta.stream(entry.rows)])  # streamed, so checked too
    weights = torch.tensor([a.gate for a in added], dtype=torch.float64)
    densities = torch.tensor([a.density for a in added], dtype=torch.float64)
    total = METHODS[numerics.method](deltas, weights, densities, numerics.normalize, generator)
    del deltas
    value = base.reader.rows(entry).float().add_(total, alpha=numerics.scale)
    found = rounded(value, dtype, numerics.rounding, generator)
    require_finite(found, entry.name)
    yield found


def _open_shard(
    stack: ExitStack, path: Path, entries: Sequence[Entry], metadata: Mapping[str, str], dtype: torch.dtype | None
) -> list[_Slot]:
    """Create or reopen a shard of the result; its tensors stand in the base's order."""
    header = []
    for entry in entries:
        stored = _stored_dtype(entry, dtype)
        header.append((entry.name, CODES[stored] if stored else entry.code, entry.shape, _size(entry, stored)))
    start = encode_header(header, metadata)
    with storage_errors(path):
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        stack.callback(os.close, number)
        _put(number, memoryview(start), 0)
        os.ftruncate(number, len(start) + sum(size for *_, size in header))
    slots, begin = [], len(start)
    for entry, (*_, size) in zip(entries, header, strict=True):
        slots.append(_Slot(entry, number, begin, _stored_dtype(entry, dtype)))
        begin += size
    return slots


def _stored_dtype(entry: Entry, dtype: torch.dtype | None) -> torch.dtype | None:
    return (dtype or entry.dtype) if entry.is_float else None


def _size(entry: Entry, dtype: torch.dtype | None) -> int:
    return prod(entry.shape) * dtype.itemsize if dtype else entry.size


def _write(slot: _Slot, offset: int, block: torch.Tensor, folder: Path) -> None:
    with storage_errors(folder):
        _put(slot.file, tensor_bytes(block), slot.begin + offset)


def _put(file: int, content: memoryview, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(file, content[done:], offset + done)


def _require_space(folder: Path, needed: int, done: int) -> None:
    """Refuse early what could not be finished."""
    held = sum(path.stat().st_blocks * 512 for path in folder.glob("*.safetensors"))
    free = shutil.disk_usage(folder).free
    if needed > free + max(held - done, 0):
        raise StorageError(
            f"cannot write into {folder.parent}: the merge needs {needed / 1e9:.2f} GB more and {free / 1e9:.2f} GB "
            "are free; free some space, or choose a smaller --dtype"
        )
