"""`deltas.safetensors`: every delta that PEFT's adapter format cannot hold, streamed in and out tensor by tensor.

A dense delta has the tensor's own name. Other forms are kept as components, such as `X::signs` and `X::scale`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
import xxhash

from alignvec.errors import VectorError
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.packed import SignDelta, SparseDelta
from alignvec.vectors.stored import DifferenceDelta, StoredDelta
from alignvec.vectors.tensorfile import CODES, Entry, Reader, encode_header, read_header, tensor_bytes

DENSE = "deltas.safetensors"
_MARK = "::"
_CHUNK = 1 << 22
"""Entries that are converted and written at once."""


@dataclass(frozen=True)
class Written:
    """What writing a file found.

    Attributes:
        hashes: tensor name to the xxh3 hash of its bytes.
        rounding: largest relative error that the storage dtype made in a tensor.
    """

    hashes: dict[str, str]
    rounding: float


def write_deltas(path: Path, deltas: Mapping[str, Delta], dtype: torch.dtype | None = None) -> Written:
    """Stream deltas into a file, holding a few rows at a time.

    Args:
        dtype: store values in this dtype; default: as they are (differences: the smallest dtype that is exact).

    Raises:
        VectorError: if a value is not finite in the storage dtype.
    """
    pieces: dict[str, tuple[Delta | torch.Tensor, torch.dtype]] = {}
    for name, delta in deltas.items():
        parts = _components(delta)
        if parts is None:
            pieces[name] = (delta, dtype or _natural(delta))
        for key, tensor in (parts or {}).items():
            is_value = tensor.is_floating_point() and tensor.ndim > 0
            pieces[f"{name}{_MARK}{key}"] = (tensor, dtype if dtype and is_value else tensor.dtype)
    order = sorted(pieces, key=lambda name: (-pieces[name][1].itemsize, name))  # keeps every tensor aligned
    metadata = {"format": "pt"} | {
        f"{name}{_MARK}shape": ",".join(map(str, delta.shape))
        for name, delta in deltas.items()
        if isinstance(delta, SparseDelta | SignDelta)
    }
    header = [
        (name, CODES[kind], tuple(piece.shape), prod(piece.shape) * kind.itemsize)
        for name, (piece, kind) in ((n, pieces[n]) for n in order)
    ]
    hashes, worst = {}, 0.0
    with path.open("wb") as stream:
        stream.write(encode_header(header, metadata))
        for name in order:
            hashes[name], rounding = _write_one(stream, name, *pieces[name])
            worst = max(worst, rounding)
    path.chmod(0o644)
    return Written(hashes, worst)


def open_deltas(path: Path, hashes: Mapping[str, str] | None = None) -> dict[str, Delta]:
    """Deltas of a file; dense ones stay on disk.

    Args:
        hashes: tensor name to hash, checked here, or for a dense delta whenever it is streamed as a whole.

    Raises:
        VectorError: if the file is damaged or a component is missing.
    """
    entries, metadata = read_header(path)
    if hashes and (other := sorted(hashes.keys() ^ {entry.name for entry in entries})):
        place = "the card" if other[0] in hashes else "the file"
        raise VectorError(f"{path}: tensor {other[0]} is in {place} only; the file is not the card's, copy it again")
    reader, deltas = Reader(), {}
    components: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        name, mark, key = entry.name.partition(_MARK)
        if mark:
            components.setdefault(name, {})[key] = entry
        else:
            deltas[name] = StoredDelta(reader, entry, digest=(hashes or {}).get(name))
    packed: dict[str, Delta] = {}
    for name, parts in components.items():
        tensors = {key: reader.rows(entry) for key, entry in parts.items()}
        for key, tensor in tensors.items():
            part = f"{name}{_MARK}{key}"
            digest = xxhash.xxh3_128(tensor_bytes(tensor)).hexdigest()
            if digest != (hashes or {}).get(part, digest):
                raise VectorError(f"{path}: tensor {part} is damaged (not its hash); copy it again")
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise VectorError(f"{path}: tensor {part} has values that are not finite")
        try:
            packed[name] = _assemble(tensors, metadata, f"{name}{_MARK}shape")
        except KeyError as error:
            raise VectorError(f"{path}: delta of {name} lacks its component {error}; the file is damaged") from None
        except ValueError as error:
            raise VectorError(f"{path}: delta of {name} has no usable shape: {error}; the file is damaged") from None
    return {**deltas, **packed}


def _natural(delta: Delta) -> torch.dtype:
    if isinstance(delta, StoredDelta):
        return delta.dtype if delta.factor == 1.0 else torch.float32
    if isinstance(delta, DifferenceDelta):
        return delta.dtype
    return delta.value.dtype if isinstance(delta, DenseDelta) else torch.float32


def _components(delta: Delta) -> dict[str, torch.Tensor] | None:
    if isinstance(delta, LowRankDelta):
        return {"a": delta.a, "b": delta.b}
    if isinstance(delta, SparseDelta):
        return {"values": delta.values, "columns": delta.columns, "counts": delta.counts}
    if isinstance(delta, SignDelta):
        return {"signs": delta.bits, "scale": delta.scale}
    return None


def _assemble(tensors: dict[str, torch.Tensor], metadata: Mapping[str, str], shape: str) -> Delta:
    if "signs" in tensors:
        return SignDelta(tensors["signs"], tensors["scale"], _size(metadata[shape]))
    if "values" in tensors:
        return SparseDelta(tensors["values"], tensors["columns"], tensors["counts"], _size(metadata[shape]))
    return LowRankDelta(tensors["a"], tensors["b"])


def _size(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _blocks(piece: Delta | torch.Tensor, step: int) -> Iterable[torch.Tensor]:
    if isinstance(piece, Delta):
        return piece.stream(step)  # streamed, so that what is read from a file is checked
    return [piece[i : i + step] for i in range(0, len(piece), step)] if piece.ndim else [piece]


def _write_one(stream: IO[bytes], name: str, piece: Delta | torch.Tensor, dtype: torch.dtype) -> tuple[str, float]:
    digest: Any = xxhash.xxh3_128()
    error = total = 0.0
    for exact in _blocks(piece, max(_CHUNK // max(piece.shape[1:].numel(), 1), 1)):
        stored = exact.detach().cpu().to(dtype).contiguous()
        if stored.is_floating_point():
            if not torch.isfinite(stored).all():
                raise VectorError(f"tensor {name} is not finite in {stored.dtype}; choose a larger --storage dtype")
            if stored.dtype != exact.dtype:
                error += (stored.float() - exact.float()).square().sum().item()
            total += exact.float().square().sum().item()
        raw = tensor_bytes(stored)
        digest.update(raw)
        stream.write(raw)
    return digest.hexdigest(), (error / total) ** 0.5 if total else 0.0
