"""Merged folders against base + Σ λ·Δ in float64, tensor by tensor and byte by byte."""

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from merging import (
    EMBEDDING,
    INDEX,
    NORM,
    UP,
    WEIGHTS,
    Tensors,
    assert_same_bytes,
    forms,
    grid,
    odd_tensors,
    recipe,
    save,
    tensors_of,
    write_base,
)
from safetensors import safe_open
from safetensors.torch import save_file

from alignvec.errors import VectorError
from alignvec.merge import sums
from alignvec.merge.run import merge
from alignvec.merge.staging import staging
from alignvec.merge.stream import Numerics, write_shards
from alignvec.merge.terms import Term
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.delta import Delta, DenseDelta
from alignvec.vectors.tensorfile import read_header

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Truth = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "BLOCK", 300)


def mixed(base: Path, seed: int, wanted: str | None = None) -> tuple[dict[str, Delta], Truth]:
    """A delta for most tensors, of one form where the shape allows it, or of forms by turns; and ΔW in float64."""
    deltas, truth = dict[str, Delta](), {}
    for number, (name, tensor) in enumerate(sorted(tensors_of(base).items())):
        if tensor.is_floating_point() and tensor.numel() and (number + seed) % 5:
            found = forms(*tensor.shape, seed=1000 * seed + number)
            form = wanted if wanted in found else list(found)[number % len(found)]
            deltas[name], truth[name] = found[form]
    return deltas, truth


def exact(base: Tensors, settings: list[tuple[float, Truth]]) -> Truth:
    return {
        name: sum((gate * truth[name] for gate, truth in settings if name in truth), tensor.double())
        for name, tensor in base.items()
        if tensor.is_floating_point()
    }


def merged(base: Path, out: Path, knobs: Mapping[str, Any], **values: Any) -> Tensors:
    places = {name: out.parent / name for name in knobs}
    merge(recipe(base, knobs, **values), out, vectors=places)
    return tensors_of(out)


@pytest.mark.parametrize("form", ["low-rank", "dense", "sparse", "sign", "mixed"])
@pytest.mark.parametrize("shards", [1, 3])
def test_two_vectors_of_any_form(tiny_folder: Path, tmp_path: Path, form: str, shards: int) -> None:
    base = write_base(tiny_folder, tmp_path / "base", shards=shards, extra=odd_tensors())
    (one, one_truth), (two, two_truth) = mixed(base, 1, form), mixed(base, 2, form)
    save(base, tmp_path / "one", one)
    save(base, tmp_path / "two", {**one, **two}, two)  # below zero, the second side is added
    found = merged(base, tmp_path / "out", {"one": 0.75, "two": -0.5})
    before = tensors_of(base)
    expected = exact(before, [(0.75, one_truth), (0.5, two_truth)])
    assert set(found) == set(before)
    for name, tensor in found.items():
        assert_same_bytes(tensor, expected[name].float() if name in expected else before[name])
    changed = {name for name in before if not torch.equal(found[name], before[name])}
    assert changed == one_truth.keys() | two_truth.keys()


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("target", [None, "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kept", DTYPES)
def test_every_dtype_and_rounding(
    tiny_folder: Path, tmp_path: Path, kept: str, target: str | None, rounding: str
) -> None:
    base = write_base(tiny_folder, tmp_path / "base", dtype=DTYPES[kept], extra=odd_tensors(DTYPES[kept]))
    deltas, truth = mixed(base, 1)
    save(base, tmp_path / "one", deltas)
    found = merged(base, tmp_path / "out", {"one": 0.75}, dtype=target, rounding=rounding)
    before, dtype = tensors_of(base), DTYPES[target or kept]
    rounded = 0
    for name, value in exact(before, [(0.75, truth)]).items():
        tensor, nearest = found[name], value.to(dtype)
        assert (tensor.dtype, tensor.shape) == (dtype, value.shape)
        if rounding == "nearest" or dtype is torch.float32:
            assert_same_bytes(tensor, nearest)
            continue
        assert torch.equal(tensor[nearest == value], nearest[nearest == value])
        rest, step = (tensor.double() - value).abs(), (nearest.double() - value).abs()
        rounded += int((rest > step).sum())
        assert (rest <= torch.finfo(dtype).eps * value.abs()).all()  # less than one step away
    assert bool(rounded) == (rounding == "stochastic" and dtype is not torch.float32)
    assert_same_bytes(found["extra.ids"], before["extra.ids"])
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == (target or kept)


def test_layout_names_order_and_metadata_are_the_bases(tiny_folder: Path, tmp_path: Path) -> None:
    base = write_base(tiny_folder, tmp_path / "base", shards=3, extra=odd_tensors())
    save(base, tmp_path / "one", mixed(base, 1)[0])
    merged(base, tmp_path / "out", {"one": 0.75}, dtype="bfloat16")
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == shards
    for shard in shards:
        (before, metadata), (after, kept) = read_header(base / shard), read_header(tmp_path / "out" / shard)
        assert [entry.name for entry in after] == [entry.name for entry in before]
        assert [entry.shape for entry in after] == [entry.shape for entry in before]
        assert kept == metadata == {"format": "pt"}
    index, old = (json.loads((folder / INDEX).read_text()) for folder in (tmp_path / "out", base))
    assert index["weight_map"] == old["weight_map"]
    size = sum(tensor.nbytes for tensor in tensors_of(tmp_path / "out").values())
    assert index["metadata"] == {"total_size": size, "mine": 2}


def test_nothing_added_is_the_base_byte_for_byte(tiny_folder: Path, tmp_path: Path) -> None:
    extra = {
        **odd_tensors(),
        "extra.half": torch.randn(9, 9).half(),
        "extra.eight": torch.ones(9).to(torch.float8_e5m2),
    }
    extra["extra.nothing"] = torch.full((3,), float("nan"))  # what is not touched is not judged
    base = write_base(tiny_folder, tmp_path / "base", extra=extra)
    save(base, tmp_path / "one", mixed(base, 1)[0])
    merged(base, tmp_path / "zero", {"one": 0.0})
    merged(base, tmp_path / "none", {})
    for out in ("zero", "none"):
        found = tensors_of(tmp_path / out)
        for name, tensor in tensors_of(base).items():
            assert_same_bytes(found[name], tensor)
        with safe_open(tmp_path / out / WEIGHTS, "pt") as file:
            assert file.metadata() == {"format": "pt", "note": "kept"}


def test_a_dtype_that_torch_lacks_is_copied(tiny_folder: Path, tmp_path: Path) -> None:
    base = write_base(tiny_folder, tmp_path / "base", extra={"extra.scales": torch.arange(32, dtype=torch.uint8)})
    raw = (base / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].replace(b'"U8"', b'"F8_E8M0"').ljust(length)
    (base / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
    save(base, tmp_path / "one", {NORM: DenseDelta(torch.ones(32))})
    merge(recipe(base, {"one": 1.0}, dtype="bfloat16"), tmp_path / "out", vectors={"one": tmp_path / "one"})
    entry = next(e for e in read_header(tmp_path / "out" / WEIGHTS)[0] if e.name == "extra.scales")
    assert entry.code == "F8_E8M0"
    assert (tmp_path / "out" / WEIGHTS).read_bytes()[entry.begin : entry.end] == bytes(range(32))


def fine_tune(base: Path, folder: Path, dtype: torch.dtype) -> Path:
    """A fine-tune whose every weight is within a factor of two of the base's, as far as it is not zero."""
    write_base(base, folder, dtype=dtype)
    before, generator = tensors_of(base), torch.Generator().manual_seed(5)
    after = {n: (t * (1 + 0.4 * torch.rand(t.shape, generator=generator))).to(dtype) for n, t in before.items()}
    save_file(after, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fine_tune_at_one_is_reproduced_bit_for_bit(tiny_folder: Path, tmp_path: Path, dtype: str) -> None:
    # b − a is exact in float32 for b within a factor of two of a (Sterbenz), and then so is a + (b − a)
    base = write_base(tiny_folder, tmp_path / "base", dtype=DTYPES[dtype])
    tuned = fine_tune(base, tmp_path / "tuned", DTYPES[dtype])
    found = merged(base, tmp_path / "out", {"one": {"model": str(tuned), "coefficient": 1.0}})
    for name, tensor in tensors_of(tuned).items():
        assert_same_bytes(found[name], tensor)
    assert not torch.equal(found[UP], tensors_of(base)[UP])


def test_order_of_knobs_and_number_of_workers_change_no_byte(tiny_folder: Path, tmp_path: Path) -> None:
    base = write_base(tiny_folder, tmp_path / "base", shards=2)
    names = [f"v{number}" for number in range(4)]
    for number, name in enumerate(names):
        save(base, tmp_path / name, {k: d.scaled(0.1) for k, d in mixed(base, number)[0].items()})
    knobs = {name: 0.1 + 0.3 * number for number, name in enumerate(names)}  # not exact in float32: order would show
    places = {name: tmp_path / name for name in names}
    reports, found = [], []
    threads = torch.get_num_threads()
    for workers, count in ((1, 1), (4, 1), (1, 3), (None, 1)):
        order = random.Random(len(found)).sample(names, 4)
        asked = recipe(base, {name: knobs[name] for name in order}, dtype="bfloat16", rounding="stochastic")
        torch.set_num_threads(count)
        reports.append(merge(asked, tmp_path / f"out{len(found)}", vectors=places, workers=workers))
        assert torch.get_num_threads() == count  # left as it was
        found.append(tensors_of(tmp_path / f"out{len(found)}"))
    torch.set_num_threads(threads)
    for other, report in zip(found[1:], reports[1:], strict=True):
        assert all(torch.equal(other[name], tensor) for name, tensor in found[0].items())
        assert {n: k.realised for n, k in report.knobs.items()} == {n: k.realised for n, k in reports[0].knobs.items()}


@pytest.mark.parametrize("method", ["sum", "dare"])
def test_a_stored_copy_of_the_embedding_stays_one(tiny_folder: Path, tmp_path: Path, method: str) -> None:
    head = grid(258, 32, seed=0, unit=2.0**-8, steps=128)
    base = write_base(tiny_folder, tmp_path / "base", extra={"lm_head.weight": head})
    save_file({**tensors_of(base), EMBEDDING: head}, base / WEIGHTS, metadata={"format": "pt"})
    delta, truth = forms(258, 32, seed=1)["low-rank"]
    save(base, tmp_path / "one", {EMBEDDING: delta})
    knob = {"coefficient": 0.75, **({"density": 0.5} if method == "dare" else {})}
    found = merged(base, tmp_path / "out", {"one": knob}, dtype="bfloat16", rounding="stochastic", method=method)
    assert_same_bytes(found["lm_head.weight"], found[EMBEDDING])
    if method == "sum":
        expected = head.double() + 0.75 * truth
        assert ((found[EMBEDDING].double() - expected).abs() <= torch.finfo(torch.bfloat16).eps * expected.abs()).all()
    save(base, tmp_path / "two", {"lm_head.weight": delta})
    with pytest.raises(VectorError, match="lm_head.weight is tied to model.embed_tokens.weight"):
        merged(base, tmp_path / "other", {"two": 1.0})


def test_deltas_in_memory_are_summed_too(tiny_folder: Path, tmp_path: Path) -> None:
    base = write_base(tiny_folder, tmp_path / "base")
    deltas, truth = mixed(base, 3, "dense")
    checkpoint = open_checkpoint(base)
    term = Term("one", 0.5, deltas, dict.fromkeys(checkpoint.entries, 0.5))
    told: list[int] = []
    with staging(tmp_path / "out", {}) as place:
        write_shards(checkpoint, [term], Numerics(), place, advance=told.append)
    found = tensors_of(tmp_path / "out")
    for name, value in exact(tensors_of(base), [(0.5, truth)]).items():
        assert_same_bytes(found[name], value.float())
    assert sum(told) == sum(tensor.nbytes for tensor in found.values())


def test_writes_that_the_system_cuts_short_are_continued(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_base(tiny_folder, tmp_path / "base")
    save(base, tmp_path / "one", mixed(base, 1)[0])
    expected, original = merged(base, tmp_path / "whole", {"one": 0.75}), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: original(file, data[:1000], at))
    found = merged(base, tmp_path / "out", {"one": 0.75})
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_delta_on_integers_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    base = write_base(tiny_folder, tmp_path / "base", extra=odd_tensors())
    save(base, tmp_path / "one", {"extra.ids": DenseDelta(torch.ones(3, 4))})
    with pytest.raises(VectorError, match="extra.ids, whose dtype I64"):
        merged(base, tmp_path / "out", {"one": 1.0})
    assert not (tmp_path / "out").exists()


def test_memory_holds_a_few_blocks(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read is larger than a block, whatever the tensor's size."""
    base = write_base(tiny_folder, tmp_path / "base", extra={"extra.tall": grid(5000, 3, seed=0)})
    save(base, tmp_path / "one", {"extra.tall": DenseDelta(grid(5000, 3, seed=1))})
    reads: list[int] = []
    original = torch.empty

    def counted(*shape: Any, **options: Any) -> torch.Tensor:
        made = original(*shape, **options)
        reads.append(made.nbytes)
        return made

    monkeypatch.setattr("alignvec.vectors.tensorfile.torch.empty", counted)
    monkeypatch.setattr("alignvec.merge.stream._COPIED", 1200)
    merge(recipe(base, {"one": 1.0}), tmp_path / "out", vectors={"one": tmp_path / "one"})
    assert reads
    assert max(reads) <= 300 * 4
    assert np.isclose(sum(reads), sum(t.nbytes for t in tensors_of(base).values()) + 5000 * 3 * 4)
