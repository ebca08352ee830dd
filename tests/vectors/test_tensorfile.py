"""Safetensors files read and written piece by piece, against the safetensors library itself."""

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from alignvec.errors import VectorError
from alignvec.vectors.tensorfile import CODES, DTYPES, Reader, encode_header, read_header, tensor_bytes

Tensors = dict[str, torch.Tensor]
SHAPES = {"matrix": (5, 3), "vector": (7,), "scalar": (), "cube": (4, 2, 3), "empty": (0, 3), "flat": (3, 0)}


def raw(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Any bytes at all (booleans: 0 and 1), so that values that are not finite occur too."""
    count = torch.Size(shape).numel() * dtype.itemsize
    found = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8)
    return found.view(dtype).view(shape)


def as_bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor_bytes(tensor.contiguous()))


@pytest.fixture
def tensors() -> Tensors:
    torch.manual_seed(0)
    return {f"{name}.{code}": raw(shape, dtype) for code, dtype in DTYPES.items() for name, shape in SHAPES.items()}


@pytest.fixture
def path(tensors: Tensors, tmp_path: Path) -> Path:
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt", "note": "häuser"})
    return tmp_path / "a.safetensors"


def test_the_header_says_what_the_library_says(path: Path) -> None:
    entries, metadata = read_header(path)
    with safe_open(path, "pt") as file:
        assert metadata == file.metadata()
        found = {e.name: (e.code, list(e.shape), e.dtype) for e in entries}
        assert found == {
            name: (file.get_slice(name).get_dtype(), file.get_slice(name).get_shape(), file.get_tensor(name).dtype)
            for name in file.keys()  # noqa: SIM118  # no mapping
        }


def test_entries_follow_each_other_from_the_header_to_the_end(path: Path) -> None:
    entries, _ = read_header(path)
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert [e.begin for e in entries] == [start, *[e.end for e in entries[:-1]]]
    assert entries[-1].end == path.stat().st_size


def test_rows_have_the_bytes_of_the_librarys_rows(path: Path) -> None:
    reader, loaded = Reader(), load_file(path)
    for entry in read_header(path)[0]:
        expected = loaded[entry.name]
        whole = reader.rows(entry)
        assert (whole.dtype, whole.shape) == (expected.dtype, expected.shape)
        assert as_bytes(whole) == as_bytes(expected)
        for start, stop in ((0, 1), (1, 3), (2, 2)):
            if entry.shape and entry.rows >= stop:
                assert as_bytes(reader.rows(entry, start, stop)) == as_bytes(expected[start:stop])
        assert as_bytes(reader.raw(entry, 0, entry.size)) == as_bytes(expected)
    reader.close()


def test_a_written_file_is_read_by_the_library(tensors: Tensors, tmp_path: Path) -> None:
    header = [(name, CODES[t.dtype], tuple(t.shape), t.nbytes) for name, t in tensors.items()]
    start = encode_header(header, {"format": "pt", "note": "häuser"})
    assert len(start) % 8 == 0
    (tmp_path / "b").write_bytes(start + b"".join(as_bytes(t) for t in tensors.values()))
    with safe_open(tmp_path / "b", "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "häuser"}
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            found = file.get_tensor(name)
            assert (found.dtype, found.shape, as_bytes(found)) == (tensor.dtype, tensor.shape, as_bytes(tensor))


def test_a_file_without_tensors_or_metadata_is_one_to_the_library_too(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(encode_header([]))
    assert load_file(tmp_path / "b") == {}
    assert read_header(tmp_path / "b") == ([], {})


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Two tensors of four floats, x before y."""
    save_file({"x": torch.arange(4.0), "y": torch.arange(4.0).view(2, 2)}, tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


def refused(path: Path) -> None:
    with pytest.raises(VectorError, match=f"cannot read {re.escape(str(path))}: .*truncated or damaged") as refusal:
        read_header(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(SafetensorError):
        load_file(path)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 50, -1, -17])
def test_a_truncated_file_is_refused(plain: Path, kept: int) -> None:
    plain.write_bytes(plain.read_bytes()[:kept])
    refused(plain)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04pickle",
        bytes(range(256)) * 40,
        b"\xff" * 64,
        b"<!DOCTYPE html>" * 9,
        (2).to_bytes(8, "little") + b"[]",
    ],
    ids=["pickle", "bytes", "ones", "page", "list"],
)
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g").write_bytes(content)
    refused(tmp_path / "g")


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], *, more: bytes = b"") -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :] + more)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["y"].update(data_offsets=[16, 36]),
        lambda h: h["y"].update(shape=[2, 3]),
        lambda h: h["y"].update(dtype="F16"),
        lambda h: h["y"].update(data_offsets=[16, 0]),
        lambda h: h["y"].update(data_offsets=[20, 36]),
        lambda h: h["y"].update(data_offsets=[0, 16]),
        lambda h: h["y"].update(shape=[-2, -2]),
        lambda h: h["y"].update(shape=[2.0, 2]),
        lambda h: h["y"].pop("dtype"),
        lambda h: h["y"].pop("data_offsets"),
        lambda h: h.update(y=7),
        lambda h: h.pop("y"),
        lambda h: h.update(__metadata__=["pt"]),
        lambda h: h.update(__metadata__={"format": 3}),
    ],
    ids=[
        "longer than its shape", "shape", "dtype", "backwards", "past the end", "overlap", "negative shape",
        "broken shape", "no dtype", "no offsets", "no object", "a hole at the end", "metadata", "metadata value",
    ],
)  # fmt: skip
def test_a_header_that_does_not_describe_the_bytes_is_refused(
    plain: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    rewrite(plain, change)
    refused(plain)


def test_bytes_that_belong_to_no_tensor_are_refused(plain: Path) -> None:
    rewrite(plain, lambda _: None, more=b"more")
    refused(plain)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=f"no tensors at {tmp_path / 'none'}; copy"):
        read_header(tmp_path / "none")
    with pytest.raises(VectorError, match=f"cannot read {tmp_path}: "):
        read_header(tmp_path)


def test_an_unknown_dtype_is_listed_but_its_values_are_refused(plain: Path) -> None:
    rewrite(plain, lambda h: h["y"].update(dtype="F4", shape=[4, 8]))
    x, y = read_header(plain)[0]
    assert (x.code, y.code, y.size) == ("F32", "F4", 16)
    assert as_bytes(Reader().raw(y, 0, 16)) == as_bytes(torch.arange(4.0))
    with pytest.raises(VectorError, match=r"tensor y .*dtype F4"):
        Reader().rows(y)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 167), st.integers(0, 255))
def test_one_changed_byte_of_the_header_is_refused_or_read_as_the_library_reads_it(
    plain: Path, place: int, byte: int
) -> None:
    content = bytearray(plain.read_bytes())
    content[min(place, len(content) - 33)] = byte
    changed = plain.with_name("changed.safetensors")
    changed.write_bytes(content)
    try:
        with safe_open(changed, "pt") as file:
            expected = {n: file.get_slice(n).get_shape() for n in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, UnicodeDecodeError):
        expected = None
    try:
        entries, _ = read_header(changed)
    except VectorError:
        assert expected is None
        return
    assert all(0 < e.begin <= e.end <= len(content) for e in entries)
    if expected is not None:
        assert {e.name: list(e.shape) for e in entries} == expected


def test_threads_read_rows_of_several_files(tmp_path: Path) -> None:
    saved = {i: torch.randn(200, 33, generator=torch.Generator().manual_seed(i)) for i in range(3)}
    for i, tensor in saved.items():
        save_file({"before": torch.ones(5), "t": tensor}, tmp_path / f"{i}.safetensors")
    entries = {i: next(e for e in read_header(tmp_path / f"{i}.safetensors")[0] if e.name == "t") for i in saved}
    reader = Reader()
    jobs = [(i, start) for start in range(0, 190, 2) for i in saved]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: reader.rows(entries[job[0]], job[1], job[1] + 9), jobs))
    reader.close()
    for (i, start), rows in zip(jobs, found, strict=True):
        assert torch.equal(rows, saved[i][start : start + 9])


def test_threads_that_open_a_file_at_once_leave_one_open(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = read_header(plain)[0]
    numbers: dict[str, list[int]] = {"open": [], "close": []}
    open_now, close_now, together = os.open, os.close, Barrier(4)

    def opened(*arguments: Any) -> int:
        number = open_now(*arguments)
        numbers["open"].append(number)
        together.wait(timeout=30)
        return number

    def closed(number: int) -> None:
        numbers["close"].append(number)
        close_now(number)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "close", closed)
    reader = Reader()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: reader.rows(x), range(4)))
    assert all(torch.equal(rows, torch.arange(4.0)) for rows in found)
    assert (len(numbers["open"]), len(numbers["close"])) == (4, 3)
    reader.close()
    assert sorted(numbers["open"]) == sorted(numbers["close"])


def test_a_file_cut_after_its_header_was_read_is_told(plain: Path) -> None:
    _, y = read_header(plain)[0]
    os.truncate(plain, plain.stat().st_size - 4)
    with pytest.raises(VectorError, match=f"{plain} ends inside tensor y"):
        Reader().rows(y)
