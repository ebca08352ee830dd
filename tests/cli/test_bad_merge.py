"""`alignvec merge` with settings, bases and vectors that cannot be merged: one line, and nothing at --out."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from merging import NORM, UP, WEIGHTS, grid, odd_tensors, save, save_two, tensors_of, write_base
from running import Command, assert_told, prepared
from safetensors.torch import save_file

from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    return write_base(tiny_folder, tmp_path / "base", shards=3, extra=odd_tensors())


@pytest.fixture
def vectors(base: Path, tmp_path: Path) -> Path:
    return save_two(base, tmp_path / "vectors")


@pytest.fixture
def merge(command: Command, base: Path, vectors: Path, tmp_path: Path) -> Callable[..., Any]:
    """Runs the command into `out` with these vectors on this base."""

    def run(*arguments: object, out: str = "out") -> Any:
        return command(
            "merge", *arguments, "--base", base, "--vectors", vectors, "--out", tmp_path / out, "--workers", 1
        )

    return run


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--knob", "medcal=1"), ("KnobError", "'medcal'", "have: ", "medical")),
        (("--knob", "medical=nan"), ("KnobError", "medical", "not a finite number")),
        (("--knob", "medical=-inf"), ("KnobError", "medical", "not a finite number")),
        (("--knob", "medical=loud"), ("KnobError", "'loud'", "expert")),
        (("--knob", "medical"), ("KnobError", "'medical'", "medical=0.5")),
        ((), ("ConfigError", "nothing to merge", "--knob")),
        (("--knob", "medical=0.5", "--knob", "medical=0.25"), ("KnobError", "'medical' is given twice")),
        (("--method", "slerp"), ("ConfigError", "method", "'slerp'", "sum, ties, dare, dare-ties")),
        (("--seed", "-1"), ("ConfigError", "seed", "greater than or equal to 0")),
        (("none.yaml",), ("ConfigError", "no file none.yaml")),
    ],
)
def test_what_cannot_be_is_refused(
    merge: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_told(merge(*arguments), *parts)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.merging").exists()


def break_base(base: Path, how: str) -> tuple[str, ...]:
    shard = sorted(base.glob("*.safetensors"))[1]
    if how == "missing":
        shard.unlink()
        return "VectorError", f"lacks {shard.name}", "copy the whole folder again"
    if how == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1])
        return "VectorError", f"cannot read {shard}", "truncated"
    tensors = {name: tensor * 2 for name, tensor in tensors_of(base).items() if name in (UP, NORM)}
    for path in base.glob("*.safetensors"):
        path.unlink()
    (base / "model.safetensors.index.json").unlink()
    save_file(tensors, base / WEIGHTS, metadata={"format": "pt"})
    return "VectorError", "belongs to base", "--allow-other-base"


@pytest.mark.parametrize("how", ["missing", "truncated", "other"])
def test_a_base_that_is_damaged_or_another(merge: Callable[..., Any], base: Path, tmp_path: Path, how: str) -> None:
    parts = break_base(base, how)
    assert_told(merge("--knob", "medical=1"), *parts)
    assert not (tmp_path / "out").exists()
    if how == "other":
        assert merge("--knob", "medical=1", "--allow-other-base").code == 0
        assert torch.equal(tensors_of(tmp_path / "out")[NORM], tensors_of(base)[NORM] + grid(32, seed=3))


def damage(vectors: Path, base: Path, how: str) -> tuple[object, ...]:
    """Spoil the vector `medical`; returns what must be told."""
    folder = vectors / "medical"
    if how == "altered":  # its last two bytes
        raw = (folder / "deltas.safetensors").read_bytes()
        (folder / "deltas.safetensors").write_bytes(raw[:-2] + bytes(255 - byte for byte in raw[-2:]))
        return folder / "deltas.safetensors", NORM, "damaged", "copy it again"
    if how == "adapter altered":
        raw = (folder / "adapter_model.safetensors").read_bytes()
        (folder / "adapter_model.safetensors").write_bytes(raw[:-2] + b"\x01\x3c")
        return folder / "adapter_model.safetensors", "damaged"
    if how == "truncated":
        raw = (folder / "deltas.safetensors").read_bytes()
        (folder / "deltas.safetensors").write_bytes(raw[:-2])
        return folder / "deltas.safetensors", "truncated or damaged"
    bad = torch.ones(64, 2)
    bad[3, 1] = float("inf")
    delta: Delta = LowRankDelta(torch.ones(2, 32), bad)
    name = UP
    if how == "dense":
        name, delta = NORM, DenseDelta(torch.full((32,), float("nan")))
    shutil.rmtree(folder)
    with pytest.MonkeyPatch.context() as patched:  # a writer that does not look at what it writes
        patched.setattr("torch.isfinite", lambda value: torch.ones_like(value, dtype=torch.bool))
        save(base, folder, {name: delta})
    return "not finite", name.removesuffix(".weight")


@pytest.mark.parametrize("how", ["altered", "adapter altered", "truncated", "dense", "low-rank"])
def test_a_damaged_vector(merge: Callable[..., Any], base: Path, vectors: Path, tmp_path: Path, how: str) -> None:
    parts = damage(vectors, base, how)
    assert_told(merge("--knob", "medical=1"), "VectorError", *parts)
    assert not (tmp_path / "out").exists()


def test_a_shape_that_does_not_fit(merge: Callable[..., Any], base: Path, vectors: Path, tmp_path: Path) -> None:
    save(base, vectors / "odd", {UP: DenseDelta(torch.ones(32, 64))})
    assert_told(merge("--knob", "odd=1"), "VectorError", UP, "[32, 64]", "[64, 32]")
    assert not (tmp_path / "out").exists()


def test_an_overflow_of_the_dtype(merge: Callable[..., Any], tmp_path: Path) -> None:
    assert_told(merge("--knob", "medical=9e6", "--dtype", "float16"), "not finite after merging", "--dtype float32")
    assert not (tmp_path / "out").exists()
    assert merge("--knob", "medical=9e6", "--dtype", "float32").code == 0
