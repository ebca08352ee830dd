"""How much of a difference the dtype of the checkpoints hides, against NumPy in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from merging import NORM, UP, WEIGHTS, tensors_of, write_model
from safetensors.torch import save_file

from alignvec.vectors import difference as module
from alignvec.vectors.card import Source
from alignvec.vectors.difference import difference


def pair(tiny_folder: Path, folder: Path, dtype: torch.dtype, *, std: float = 2e-5) -> tuple[Path, Path]:
    """Weights of standard deviation 0.02, and changed by `std`; rounded to `dtype` before and after."""
    generator = torch.Generator().manual_seed(0)
    before = {"wide": (0.02 * torch.randn(700, 1000, generator=generator)).to(dtype).float(), NORM: torch.ones(32)}
    after = {**before, "wide": before["wide"] + std * torch.randn(700, 1000, generator=generator)}
    folders = [
        write_model(folder / name, {n: t.to(dtype) for n, t in tensors.items()}, like=tiny_folder)
        for name, tensors in (("before", before), ("after", after))
    ]
    return folders[0], folders[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("widened", [False, True])
def test_what_rounding_hides_is_told_in_figures(
    tiny_folder: Path, tmp_path: Path, dtype: torch.dtype, widened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 100_000)  # several blocks, sampled each
    monkeypatch.setattr(module, "_SAMPLE", 5_000)
    folders = pair(tiny_folder, tmp_path, dtype)
    if widened:  # on the grid of 16 bits, stored in 32
        for folder in folders:
            wide = {name: tensor.float() for name, tensor in tensors_of(folder).items()}
            save_file(wide, folder / WEIGHTS, metadata={"format": "pt"})
    deltas, source = difference(*folders)
    a, b = (tensors_of(folder)["wide"].double().numpy().reshape(-1) for folder in folders)
    zeros = (a == b).mean()
    bits, lowest = (7, -126) if dtype is torch.bfloat16 else (10, -14)
    with np.errstate(divide="ignore"):
        spacing = 2.0 ** (np.maximum(np.floor(np.log2(np.abs(b[a != b]))), lowest) - bits)
    steps = np.abs(b - a)[a != b] / spacing
    assert source.grid == str(dtype).removeprefix("torch.")
    assert source.zero_share == zeros
    assert source.delta_ulp == pytest.approx(np.median(steps), abs=0.02 * np.median(steps) + 1e-9)
    warning = source.warning()
    assert warning is not None
    assert f"{zeros:.0%} of the entries" in warning
    assert (0.75 < zeros < 0.8) if dtype is torch.bfloat16 else (0.1 < zeros < 0.5)
    assert set(deltas) == {"wide"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_weight_that_has_become_zero_was_changed_by_all_its_digits(
    tiny_folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    value = 0.1 * torch.randn(64, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    old = write_model(tmp_path / "old", {UP: value}, like=tiny_folder)
    new = write_model(tmp_path / "new", {UP: torch.where(torch.arange(32) < 20, 0, value)}, like=tiny_folder)  # pruned
    source = difference(old, new)[1]
    assert 1 / torch.finfo(dtype).eps <= source.delta_ulp < 2 / torch.finfo(dtype).eps
    assert source.zero_share == 12 / 32


def test_a_float32_source_gives_no_warning(tiny_folder: Path, tmp_path: Path) -> None:
    _, source = difference(*pair(tiny_folder, tmp_path, torch.float32))
    assert source.grid == "float32"
    assert source.zero_share < 0.05
    assert source.base_rounding == 0.0
    assert source.warning() is None


def test_large_changes_of_a_rounded_model_give_no_warning(tiny_folder: Path, tmp_path: Path) -> None:
    _, source = difference(*pair(tiny_folder, tmp_path, torch.bfloat16, std=0.02))
    assert source.grid == "bfloat16"
    assert source.warning() is None


@pytest.mark.parametrize(
    ("figures", "part"),
    [
        ({}, None),
        ({"zero_share": 0.0499}, None),
        ({"zero_share": 0.05}, "5% of the entries"),
        ({"delta_ulp": 4.1}, None),
        ({"delta_ulp": 4.0}, "no more than 4 of its steps"),
        ({"base_rounding": 0.1}, None),
        ({"base_rounding": 0.11}, "0.11 times this vector's norm"),
        ({"base_rounding": 0.11, "zero_share": 0.5}, "0.11 times this vector's norm"),
        ({"grid": "float32", "zero_share": 0.5, "delta_ulp": 0.1, "base_rounding": 0.5}, None),
    ],
)
def test_a_warning_begins_where_rounding_takes_a_visible_part(figures: dict[str, Any], part: str | None) -> None:
    told = Source(**{"grid": "bfloat16", "zero_share": 0.0, "delta_ulp": 5.0, "left_out": [], **figures}).warning()
    assert part in told if told and part else told is part


@pytest.mark.parametrize("block", [32, 1 << 22])
def test_the_share_of_equal_entries_is_that_of_all_changed_tensors(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    old = {"a": torch.zeros(6, 32), "b": torch.zeros(40), "same": torch.zeros(100), "c": torch.zeros(4, 8)}
    new = {name: tensor.clone() for name, tensor in old.items()}
    new["a"][2, :8], new["b"][:10], new["c"][:] = 1.0, 1.0, 2.0
    folders = [write_model(tmp_path / n, t, like=tiny_folder) for n, t in (("old", old), ("new", new))]
    source = difference(*folders)[1]
    assert source.zero_share == 1 - (8 + 10 + 32) / (6 * 32 + 40 + 32)
    assert (source.grid, source.base_rounding, source.left_out) == ("bfloat16", 0.0, [])
