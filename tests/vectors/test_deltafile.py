"""Every form of delta written to one file and read again, bit for bit; damage and overflow are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import load_file, save_file

from alignvec.errors import VectorError
from alignvec.vectors import deltafile
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta, SumDelta, add
from alignvec.vectors.deltafile import open_deltas, write_deltas
from alignvec.vectors.packed import SignDelta, SparseDelta, to_signs, to_sparse
from alignvec.vectors.stored import DifferenceDelta, StoredDelta
from alignvec.vectors.tensorfile import Reader, read_header

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def every_form() -> dict[str, Delta]:
    """One delta of each form that is kept in memory, and shapes from a scalar to three dimensions."""
    value = randn(9, 13)
    return {
        "dense": DenseDelta(randn(5, 7)),
        "norm": DenseDelta(randn(7)),
        "scalar": DenseDelta(torch.tensor(0.3)),
        "low": LowRankDelta(randn(3, 7), randn(9, 3)),
        "sparse": to_sparse(value, value.abs() > 1.2),
        "sparse.cube": to_sparse(randn(4, 3, 5), randn(4, 3, 5) > 0.5),
        "signs": to_signs(value),
        "signs.cube": to_signs(randn(4, 3, 5)),
    }


def tensors_of(delta: Delta) -> tuple[torch.Tensor, ...]:
    if isinstance(delta, LowRankDelta):
        return (delta.a, delta.b)
    if isinstance(delta, SparseDelta):
        return (delta.values, delta.columns, delta.counts)
    return (delta.bits, delta.scale) if isinstance(delta, SignDelta) else (delta.dense(),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deltas.safetensors"


@pytest.mark.parametrize("chunk", [1, 20, 1 << 22])
def test_every_form_comes_back_bit_for_bit(path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltafile, "_CHUNK", chunk)
    deltas = every_form()
    written = write_deltas(path, deltas)
    found = open_deltas(path, written.hashes)
    assert written.rounding == 0.0
    assert found.keys() == deltas.keys()
    for name, delta in deltas.items():
        assert type(found[name]) is (StoredDelta if isinstance(delta, DenseDelta) else type(delta))
        assert found[name].shape == delta.shape
        for before, after in zip(tensors_of(delta), tensors_of(found[name]), strict=True):
            assert before.dtype == after.dtype
            assert torch.equal(before, after)
        assert torch.equal(torch.cat([b.view(-1) for b in found[name].stream(2)]), delta.dense().view(-1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_deltas_are_kept_in_their_own_dtype_unless_told_otherwise(path: Path, dtype: torch.dtype) -> None:
    dense = DenseDelta(randn(5, 7).to(dtype))
    low = LowRankDelta(randn(3, 7).to(dtype), randn(9, 3).to(dtype))
    assert write_deltas(path, {"dense": dense, "low": low}).rounding == 0.0
    found = open_deltas(path)
    stored, factors = found["dense"], found["low"]
    assert isinstance(stored, StoredDelta)
    assert isinstance(factors, LowRankDelta)
    assert (stored.dtype, factors.a.dtype) == (dtype, dtype)
    assert torch.equal(stored.dense(), dense.value.float())
    assert torch.equal(factors.b, low.b)


def relative(exact: torch.Tensor, dtype: torch.dtype) -> float:
    return ((exact.to(dtype).double() - exact.double()).norm() / exact.double().norm()).item()


@pytest.mark.parametrize("chunk", [1, 1 << 22])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_rounding_of_the_storage_dtype_is_the_worst_tensors(
    path: Path, dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltafile, "_CHUNK", chunk)
    deltas = every_form()
    values = [t for d in deltas.values() for t in tensors_of(d)[: 2 if isinstance(d, LowRankDelta) else 1]]
    worst = max(relative(t, dtype) for t in values if t.is_floating_point())
    assert worst > 1e-4
    assert write_deltas(path, deltas, dtype).rounding == pytest.approx(worst, rel=1e-3)
    for name, found in open_deltas(path).items():
        expected = deltas[name]
        if isinstance(expected, SignDelta):  # a scale is four bytes, whatever the dtype
            assert torch.equal(found.dense(), expected.dense())
        elif not isinstance(expected, LowRankDelta):
            assert torch.equal(found.dense(), expected.dense().to(dtype).float())


def test_the_file_is_one_the_library_reads(path: Path) -> None:
    deltas = every_form()
    written = write_deltas(path, deltas)
    tensors = load_file(path)
    assert torch.equal(tensors["dense"], deltas["dense"].dense())
    assert torch.equal(tensors["low::a"], tensors_of(deltas["low"])[0])
    assert written.hashes == {
        name: xxhash.xxh3_128(t.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, t in tensors.items()
    }
    for entry in read_header(path)[0]:
        assert entry.begin % entry.dtype.itemsize == 0, entry


def test_a_stored_delta_is_stored_again_as_it_is_and_scaled_in_float32(path: Path, tmp_path: Path) -> None:
    value = randn(5, 7).bfloat16()
    write_deltas(path, {"w": DenseDelta(value)})
    stored = open_deltas(path)["w"]
    write_deltas(tmp_path / "same", {"w": stored})
    write_deltas(tmp_path / "scaled", {"w": stored.scaled(0.1)})
    assert (tmp_path / "same").read_bytes() == path.read_bytes()
    scaled = load_file(tmp_path / "scaled")["w"]
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled.double(), value.double() * 0.1, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_difference_of_two_files_is_stored_in_its_own_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    before, after = randn(6, 5), randn(8, 5, seed=1)
    before, after = before.to(dtype), after.to(dtype)
    entries = []
    for name, tensor in (("before", before), ("after", after)):
        save_file({"w": tensor}, tmp_path / name)
        entries.append((Reader(), read_header(tmp_path / name)[0][0]))
    delta = DifferenceDelta(*entries)
    write_deltas(tmp_path / "d", {"w": delta, "half": delta.scaled(0.5)})
    expected = after[:6].double() - before.double()
    found = load_file(tmp_path / "d")
    assert found["w"].dtype == torch.float32
    torch.testing.assert_close(found["w"].double(), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found["half"].double(), expected / 2, rtol=1e-6, atol=1e-7)
    for start, stop in ((0, 6), (2, 4), (5, 6)):
        torch.testing.assert_close(delta.rows(start, stop).double(), expected[start:stop], rtol=1e-6, atol=1e-7)


def test_rows_that_only_the_base_has_do_not_change(tmp_path: Path) -> None:
    entries = []
    for name, rows in (("before", 6), ("after", 4)):
        save_file({"w": torch.full((rows, 2), float(rows))}, tmp_path / name)
        entries.append((Reader(), read_header(tmp_path / name)[0][0]))
    delta = DifferenceDelta(*entries)
    expected = torch.tensor([-2.0] * 4 + [0.0] * 2)[:, None].expand(6, 2)
    for start, stop in ((0, 6), (3, 5), (5, 6), (0, 2)):
        assert torch.equal(delta.rows(start, stop), expected[start:stop])


def flip(path: Path, name: str) -> None:
    """Change the last byte of one tensor."""
    entry = next(e for e in read_header(path)[0] if e.name == name)
    content = bytearray(path.read_bytes())
    content[entry.end - 1] ^= 1
    path.write_bytes(content)


def test_an_altered_dense_tensor_is_found_when_it_is_streamed(path: Path) -> None:
    hashes = write_deltas(path, every_form()).hashes
    flip(path, "dense")
    found = open_deltas(path, hashes)
    with pytest.raises(VectorError, match=f"{path}: tensor dense is damaged .not its hash.; copy it again"):
        list(found["dense"].stream(2))
    list(found["norm"].stream(2))
    with pytest.raises(VectorError, match="tensor dense is damaged"):
        list(found["dense"].scaled(2.0).stream(100))


@pytest.mark.parametrize("place", [0, 1])
def test_an_altered_part_of_a_sum_is_found_when_the_sum_is_streamed(path: Path, place: int) -> None:
    hashes = write_deltas(path, {"dense": DenseDelta(randn(5, 7)), "sound": DenseDelta(randn(5, 7, seed=1))}).hashes
    flip(path, "dense")
    found = open_deltas(path, hashes)
    parts = [found["sound"], found["sound"]]
    parts[place] = found["dense"]
    total = add(*parts)
    assert isinstance(total, SumDelta)
    for read in (lambda: list(total.stream(2)), lambda: list(total.scaled(0.5).stream(100)), total.dense):
        with pytest.raises(VectorError, match="tensor dense is damaged"):
            read()


def test_a_sum_of_stored_deltas_is_written_in_float32(path: Path, tmp_path: Path) -> None:
    one, two = randn(5, 7).bfloat16(), randn(5, 7, seed=1).half()
    write_deltas(path, {"one": DenseDelta(one), "two": DenseDelta(two)})
    found = open_deltas(path)
    write_deltas(tmp_path / "sum", {"w": add(found["one"], found["two"])})
    total = load_file(tmp_path / "sum")["w"]
    assert total.dtype == torch.float32
    torch.testing.assert_close(total.double(), one.double() + two.double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["low::a", "sparse::values", "sparse::columns", "signs::signs", "signs::scale"])
def test_an_altered_component_is_found_when_the_file_is_opened(path: Path, name: str) -> None:
    hashes = write_deltas(path, every_form()).hashes
    flip(path, name)
    with pytest.raises(VectorError, match=f"{path}: tensor {name} is damaged .not its hash.; copy it again"):
        open_deltas(path, hashes)


def resave(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> None:
    tensors, metadata = load_file(path), read_header(path)[1]
    change(tensors, metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "name", ["low::a", "low::b", "sparse::values", "sparse::columns", "sparse::counts", "signs::signs", "signs::scale"]
)
def test_a_missing_component_is_named(path: Path, name: str) -> None:
    write_deltas(path, every_form())
    resave(path, lambda tensors, _: tensors.pop(name))
    with pytest.raises(VectorError, match=f"{path}: delta of {name.split(':')[0]} lacks its component '"):
        open_deltas(path)


@pytest.mark.parametrize("text", [None, "", "9,x"])
@pytest.mark.parametrize("name", ["sparse", "signs"])
def test_a_missing_or_broken_shape_is_named(path: Path, name: str, text: str | None) -> None:
    write_deltas(path, every_form())

    def change(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        metadata.pop(f"{name}::shape")
        metadata.update({} if text is None else {f"{name}::shape": text})

    resave(path, change)
    with pytest.raises(VectorError, match=f"{path}: delta of {name} "):
        open_deltas(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["low::b", "sparse::values", "signs::scale"])
def test_a_component_that_is_not_finite_is_refused(path: Path, name: str, value: float) -> None:
    write_deltas(path, every_form())
    resave(path, lambda tensors, _: tensors[name].view(-1)[-1:].fill_(value))
    with pytest.raises(VectorError, match=f"{path}: tensor {name} has values that are not finite"):
        open_deltas(path)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_value_that_is_not_finite_is_not_written(path: Path, value: float) -> None:
    with pytest.raises(VectorError, match=r"tensor w is not finite in torch.float32"):
        write_deltas(path, {"w": DenseDelta(torch.tensor([[1.0], [value]]))})


def test_a_value_that_the_storage_dtype_cannot_hold_is_refused(path: Path) -> None:
    deltas: dict[str, Delta] = {"w": LowRankDelta(torch.ones(1, 2), torch.full((2, 1), 1e6))}
    with pytest.raises(VectorError, match=r"w::b is not finite in torch.float16; choose a larger --storage dtype"):
        write_deltas(path, deltas, torch.float16)
    assert write_deltas(path, deltas, torch.bfloat16).rounding == pytest.approx(
        relative(torch.tensor(1e6), torch.bfloat16)
    )


@pytest.mark.parametrize("factor", [1.0, -0.5])
def test_rows_of_a_stored_delta_are_read_alone(path: Path, factor: float) -> None:
    value = randn(9, 13)
    stored = open_deltas(path, write_deltas(path, {"w": DenseDelta(value)}).hashes)["w"].scaled(factor)
    for start, stop in ((0, 9), (2, 5), (8, 9), (3, 3)):
        assert torch.equal(stored.rows(start, stop), value[start:stop] * factor)
    assert (stored.nbytes, stored.shape) == (9 * 13 * 4, (9, 13))


def test_a_tensor_without_rows_is_stored_and_read(path: Path) -> None:
    empty = open_deltas(path, write_deltas(path, {"w": DenseDelta(torch.zeros(0, 4))}).hashes)["w"]
    assert (empty.dense().shape, empty.dense().dtype, empty.nbytes) == ((0, 4), torch.float32, 0)


@pytest.mark.parametrize(("stated", "place"), [({"w": "0", "x": "0"}, "x is in the card"), ({}, "w is in the file")])
def test_a_tensor_in_the_card_or_in_the_file_alone_is_named(path: Path, stated: dict[str, str], place: str) -> None:
    write_deltas(path, {"w": DenseDelta(randn(2)), "v": DenseDelta(randn(2))})
    with pytest.raises(VectorError, match=f"{place} only; the file is not the card's"):
        open_deltas(path, {"v": "0", **stated})
