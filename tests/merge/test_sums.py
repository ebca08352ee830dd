"""One tensor's sum, block by block, against the same sum in float64."""

from math import ceil, prod
from pathlib import Path

import pytest
import torch
from merging import assert_same_bytes, forms, grid
from safetensors.torch import save_file

from alignvec.errors import VectorError
from alignvec.merge import sums
from alignvec.merge.sums import Added, require_finite, summed
from alignvec.merge.terms import Overlap
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.deltafile import open_deltas, write_deltas
from alignvec.vectors.tensorfile import Entry, Reader, read_header

SHAPES = [(), (7,), (1, 40), (77, 1), (13, 8), (64, 33), (5, 3, 7), (0, 4)]


def stored(value: torch.Tensor, folder: Path) -> Entry:
    save_file({"w": value}, folder / "base.safetensors")
    return read_header(folder / "base.safetensors")[0][0]


def run(
    entry: Entry, added: list[Added], dtype: torch.dtype = torch.float32, overlap: Overlap | None = None
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    whole = overlap or Overlap.zero(len(added))
    return list(summed(Reader(), entry, added, dtype, "nearest", generator, whole))


def joined(blocks: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    flat = [block.reshape(-1) for block in blocks]
    return torch.cat(flat).view(like.shape) if flat else torch.empty(like.shape, dtype=like.dtype)


@pytest.mark.parametrize("block", [1, 24, 1 << 17])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_form_at_every_shape_is_the_float64_sum(
    shape: tuple[int, ...], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "BLOCK", block)
    value = grid(*shape, seed=1, unit=2.0**-8, steps=128)
    entry = stored(value, tmp_path)
    found = forms(*shape, seed=2) if shape != (0, 4) else {"dense": (DenseDelta(value), value.double())}
    write_deltas(tmp_path / "deltas.safetensors", {"w": found["dense"][0]})
    on_disk = open_deltas(tmp_path / "deltas.safetensors")["w"]
    every: list[tuple[Delta, torch.Tensor]] = [*found.values(), (on_disk, found["dense"][1])]
    for delta, truth in every:
        for dtype in (torch.float32, torch.bfloat16):
            blocks = run(entry, [Added(0, 0.75, delta)], dtype)
            assert_same_bytes(joined(blocks, value.to(dtype)), (value.double() + 0.75 * truth).to(dtype))
            assert len(blocks) == wanted_blocks(shape, block)
    gates = [0.5, -1.25, 2.0, -0.25, 0.75][: len(every)]
    mixed = [Added(i, gate, delta) for i, (gate, (delta, _)) in enumerate(zip(gates, every, strict=True))]
    total = value.double() + sum(gate * truth for gate, (_, truth) in zip(gates, every, strict=True))
    assert_same_bytes(joined(run(entry, mixed), value), total.float())


def wanted_blocks(shape: tuple[int, ...], block: int) -> int:
    """Whole rows, as many as fit into a block, one at least."""
    rows, row = (shape[0], prod(shape[1:])) if shape else (1, 1)
    return ceil(rows / max(block // row, 1))


@pytest.mark.parametrize("seed", [0, 1])
def test_random_numbers_are_right_to_float32s_last_bits(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "BLOCK", 100)
    torch.manual_seed(seed)
    value, dense, a, b = (torch.randn(*s) for s in ((50, 30), (50, 30), (4, 30), (50, 4)))
    added = [Added(0, 0.3, LowRankDelta(a, b)), Added(1, -0.7, DenseDelta(dense))]
    exact = value.double() + 0.3 * (b.double() @ a.double()) - 0.7 * dense.double()
    size = value.double().abs() + 0.3 * (b.double().abs() @ a.double().abs()) + 0.7 * dense.double().abs()
    # six roundings of partial sums (four products, two more terms), and one of each gate
    assert ((joined(run(stored(value, tmp_path), added), value) - exact).abs() <= 8 * 2.0**-24 * size).all()


def test_inner_products_are_those_of_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "BLOCK", 100)
    monkeypatch.setattr(sums, "PROBED", 1)
    torch.manual_seed(0)
    value, gates = torch.randn(20, 12), [0.5, -0.25, 0.75, 1.5]
    found = [forms(20, 12, seed=seed)[form] for seed, form in enumerate(("low-rank", "dense", "sparse", "low-rank"))]
    overlap = Overlap.zero(5)
    terms = [0, 2, 3, 4]  # term 1 leaves this tensor
    added = [Added(t, gate, delta) for t, gate, (delta, _) in zip(terms, gates, found, strict=True)]
    merged = joined(run(stored(value, tmp_path), added, torch.bfloat16, overlap), value)
    change = (merged.double() - value.double()).reshape(-1)
    truths = torch.stack([gate * truth.reshape(-1) for gate, (_, truth) in zip(gates, found, strict=True)])
    torch.testing.assert_close(overlap.gram[terms][:, terms], truths @ truths.T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(overlap.added[terms], truths @ change, rtol=1e-5, atol=1e-6)
    assert not overlap.gram[1].any()
    assert not overlap.added[1].any()


def test_the_blocks_looked_at_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "BLOCK", 10)
    delta = torch.arange(1.0, 21.0)[:, None].expand(20, 10).contiguous()  # a row is a block; rows 0, 8 and 16 are seen
    overlap = Overlap.zero(1)
    run(stored(torch.zeros(20, 10), tmp_path), [Added(0, 2.0, DenseDelta(delta))], overlap=overlap)
    expected = 4 * 10 * (1 + 9**2 + 17**2) * 20 / 3
    assert overlap.gram.item() == pytest.approx(expected, rel=1e-6)
    assert overlap.added.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["dense", "low-rank", "base"])
def test_what_is_not_finite_is_refused_by_name(form: str, bad: float, tmp_path: Path) -> None:
    value, dense, a, b = torch.ones(6, 4), torch.ones(6, 4), torch.ones(2, 4), torch.ones(6, 2)
    {"dense": dense, "low-rank": b, "base": value}[form][5, 1] = bad
    delta: Delta = LowRankDelta(a, b) if form == "low-rank" else DenseDelta(dense)
    with pytest.raises(VectorError, match="tensor w is not finite after merging"):
        run(stored(value, tmp_path), [Added(0, 1.0, delta)])


def test_an_overflow_of_the_dtype_is_refused_and_a_large_sum_is_not() -> None:
    require_finite(torch.full((1000,), 60000.0).half(), "w")  # their sum is beyond float16, they are not
    with pytest.raises(VectorError, match="w is not finite.*--dtype float32"):
        require_finite(torch.tensor([1.0, 70000.0]).half(), "w")


def test_a_damaged_delta_is_found_after_its_last_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "BLOCK", 16)
    path = tmp_path / "deltas.safetensors"
    hashes = write_deltas(path, {"w": DenseDelta(grid(8, 8, seed=0))}).hashes
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x3c")
    delta, overlap = open_deltas(path, hashes)["w"], Overlap.zero(1)
    blocks = summed(
        Reader(), stored(torch.zeros(8, 8), tmp_path), [Added(0, 1.0, delta)], torch.float32, "nearest",
        torch.Generator(), overlap,
    )  # fmt: skip
    for _ in range(4):
        next(blocks)
    with pytest.raises(VectorError, match="tensor w is damaged"):
        next(blocks)
    assert not overlap.added.any()
