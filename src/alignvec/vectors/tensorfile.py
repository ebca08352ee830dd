"""Safetensors files read and written piece by piece, so that memory does not grow with the model.

The library's own functions hold whole files; its format is an 8-byte length, a JSON header, and the bytes
(https://huggingface.co/docs/safetensors).
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from alignvec.errors import VectorError

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies.

    Attributes:
        name: the tensor's name.
        path: the file.
        code: dtype as the format writes it, such as `BF16`.
        shape: its shape.
        begin: first byte, from the start of the file.
        end: byte after the last.
    """

    name: str
    path: Path
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype.

        Raises:
            VectorError: if it has none.
        """
        if self.code not in DTYPES:
            raise VectorError(f"{self.path}: tensor {self.name} has dtype {self.code}, which cannot be computed with")
        return DTYPES[self.code]

    @property
    def is_float(self) -> bool:
        """Whether it holds numbers that sums can be added to (no integers, no 8-bit floats with outer scales)."""
        return self.code in ("F64", "F32", "F16", "BF16")

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.begin

    @property
    def rows(self) -> int:
        """Length of the first dimension; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 0 for an empty tensor."""
        return self.size // self.rows if self.rows else 0


def read_header(path: Path) -> tuple[list[Entry], dict[str, str]]:
    """Entries of a safetensors file in byte order, and its metadata.

    Raises:
        VectorError: if the file is missing, truncated, or its header does not describe its bytes.
    """
    try:
        with safe_open(path, "np"):  # checks that shapes, dtypes and offsets describe the file's bytes
            pass
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except FileNotFoundError:
        raise VectorError(f"no tensors at {path}; copy the whole folder again") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise VectorError(f"cannot read {path}: {error}; the file is truncated or damaged") from None
    metadata = header.pop("__metadata__", None) or {}
    start = 8 + length
    entries = []
    for name, value in header.items():
        begin, end = value["data_offsets"]
        entries.append(Entry(name, path, value["dtype"], tuple(value["shape"]), start + begin, start + end))
    return sorted(entries, key=lambda entry: (entry.begin, entry.end)), metadata


def encode_header(
    tensors: Iterable[tuple[str, str, tuple[int, ...], int]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Length and header of a file whose tensors follow each other without a gap.

    Args:
        tensors: name, dtype code, shape and bytes of each tensor, in the order of their bytes.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, code, shape, size in tensors:
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor in the CPU's memory, not copied."""
    array: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(array)


class Reader:
    """Reads rows of tensors by `pread`, from any number of threads; files are opened once."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}

    def rows(self, entry: Entry, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows `start` to `stop` of a tensor, in its own dtype.

        Raises:
            VectorError: if the file ends before them.
        """
        stop = entry.rows if stop is None else stop
        size = entry.row_bytes
        raw = torch.empty((stop - start) * size, dtype=torch.uint8)
        if raw.numel():
            self._fill(entry, entry.begin + start * size, raw)
        shape = (stop - start, *entry.shape[1:]) if entry.shape else ()
        return raw.view(entry.dtype).view(shape)

    def raw(self, entry: Entry, start: int, stop: int) -> torch.Tensor:
        """Bytes `start` to `stop` of a tensor, as they are."""
        buffer = torch.empty(stop - start, dtype=torch.uint8)
        self._fill(entry, entry.begin + start, buffer)
        return buffer

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for number in self._files.values():
            os.close(number)
        self._files = {}

    def _fill(self, entry: Entry, offset: int, raw: torch.Tensor) -> None:
        view, done = tensor_bytes(raw), 0
        number = self._files.get(entry.path)
        if number is None:
            opened = os.open(entry.path, os.O_RDONLY)
            number = self._files.setdefault(entry.path, opened)
            if number != opened:  # another thread was first
                os.close(opened)
        while done < len(view):
            got = os.preadv(number, [view[done:]], offset + done)
            if not got:
                raise VectorError(f"{entry.path} ends inside tensor {entry.name}; it was changed while being read")
            done += got
