"""Merge methods through the streamed merge against the same methods on whole tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from merging import EMBEDDING, NORM, UP, Tensors, assert_same_bytes, forms, recipe, save, tensors_of, write_base

from alignvec.errors import ConfigError, VectorError
from alignvec.merge import sums
from alignvec.merge.run import merge
from alignvec.vectors.delta import Delta, DenseDelta

O_PROJ = "model.layers.{}.self_attn.o_proj.weight"
Truth = dict[str, torch.Tensor]


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sums, "BLOCK", 300)
    return write_base(tiny_folder, tmp_path / "base")


def pair(base: Path, folder: Path) -> dict[str, Truth]:
    """Vectors `one` and `two`: both change UP, `one` alone NORM, `two` alone the embedding; ΔW in float64."""
    plan = {"one": {UP: "dense", NORM: "dense"}, "two": {UP: "low-rank", EMBEDDING: "sparse"}}
    truths, before = {}, tensors_of(base)
    for number, (name, wanted) in enumerate(plan.items()):
        found = {t: forms(*before[t].shape, seed=7 * number + i)[form] for i, (t, form) in enumerate(wanted.items())}
        save(base, folder / name, {tensor: delta for tensor, (delta, _) in found.items()})
        truths[name] = {tensor: truth for tensor, (_, truth) in found.items()}
    return truths


def merged(base: Path, knobs: dict[str, Any], **values: Any) -> Tensors:
    places = {name: base.parent / name for name in knobs}
    report = merge(recipe(base, knobs, **values), base.parent / "out", vectors=places, overwrite=True)
    assert report.method != "sum" or not report.normalize or all(k.realised is None for k in report.knobs.values())
    return tensors_of(base.parent / "out")


def trimmed(delta: torch.Tensor, density: float) -> np.ndarray:
    """The ⌊density · n⌋ largest magnitudes, the first of equal ones first."""
    flat = delta.numpy().reshape(-1)
    order = sorted(range(len(flat)), key=lambda i: -abs(flat[i]))  # stable
    found = np.zeros_like(flat)
    kept = order[: max(1, int(density * len(flat)))]
    found[kept] = flat[kept]
    return found.reshape(delta.shape)


def elected(deltas: list[np.ndarray], gates: list[float], normalize: bool) -> torch.Tensor:
    """TIES after the trimming, by its definition."""
    signed = np.stack([gate * delta for gate, delta in zip(gates, deltas, strict=True)])
    sign = np.where(signed.sum(0) >= 0, 1, -1)
    agrees = np.sign(signed) == sign
    total = (signed * agrees).sum(0)
    if normalize:
        weight = (np.abs(gates)[:, None, None] * agrees).sum(0)
        total = total / np.where(weight == 0, 1, weight)
    return torch.from_numpy(total)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_ties(base: Path, tmp_path: Path, normalize: bool, scale: float) -> None:
    truth = pair(base, tmp_path)
    knobs = {"one": {"coefficient": 0.75, "density": 0.3}, "two": {"coefficient": -0.5, "density": 0.6}}
    found = merged(base, knobs, method="ties", normalize=normalize, scale=scale)
    before = tensors_of(base)
    deltas = [trimmed(truth["one"][UP], 0.3), trimmed(truth["two"][UP], 0.6)]
    expected = before[UP].double() + scale * elected(deltas, [0.75, -0.5], normalize)
    torch.testing.assert_close(found[UP].double(), expected, rtol=0, atol=1e-7)
    untouched = set(before) - {UP, NORM, EMBEDDING}
    for name in untouched:
        assert_same_bytes(found[name], before[name])


def test_dare_drops_at_its_rate_and_keeps_its_seed(base: Path, tmp_path: Path) -> None:
    truth = pair(base, tmp_path)["one"][UP]
    knobs = {"one": {"coefficient": 0.5, "density": 0.25}}
    found = merged(base, knobs, method="dare", seed=3)[UP]
    change = (found.double() - tensors_of(base)[UP].double()) / 0.5
    nonzero = truth != 0
    kept = (change != 0)[nonzero]
    assert torch.equal(change[nonzero][kept], (truth * 4)[nonzero][kept])  # all powers of two: exact
    count = int(nonzero.sum())
    assert abs(kept.double().mean() - 0.25) < 6 * (0.25 * 0.75 / count) ** 0.5
    assert torch.equal(merged(base, knobs, method="dare", seed=3)[UP], found)
    assert not torch.equal(merged(base, knobs, method="dare", seed=4)[UP], found)


def test_dare_ties_without_dropping_is_ties(base: Path, tmp_path: Path) -> None:
    pair(base, tmp_path)
    knobs = {"one": 0.75, "two": -0.5}
    one, other = merged(base, knobs, method="dare-ties"), merged(base, knobs, method="ties")
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())
    before = tensors_of(base)
    dropped = merged(base, {"one": {"coefficient": 0.5, "density": 0.5}}, method="dare-ties")
    assert 0 < (dropped[UP] != before[UP]).double().mean() < 0.7


def test_a_schedule_over_the_layers(base: Path, tmp_path: Path) -> None:
    before = tensors_of(base)
    names = [O_PROJ.format(0), O_PROJ.format(1), EMBEDDING, NORM]
    found = {name: forms(*before[name].shape, seed=i)["dense"] for i, name in enumerate(names)}
    save(base, tmp_path / "one", {name: delta for name, (delta, _) in found.items()})
    changed = merged(base, {"one": {"coefficient": 0.5, "layers": [0.25, 9.0, 2.0]}})
    factors = dict(zip(names, (0.25, 2.0, 0.25, 2.0), strict=True))  # two layers: the schedule's ends
    for name, factor in factors.items():
        assert_same_bytes(changed[name], (before[name].double() + 0.5 * factor * found[name][1]).float())


def test_a_schedule_of_zero_leaves_the_layer_alone(base: Path, tmp_path: Path) -> None:
    before = tensors_of(base)
    deltas: dict[str, Delta] = {O_PROJ.format(i): DenseDelta(torch.ones(32, 32)) for i in (0, 1)}
    save(base, tmp_path / "one", deltas)
    found = merged(base, {"one": {"coefficient": 1.0, "layers": [0.0, 1.0]}})
    assert_same_bytes(found[O_PROJ.format(0)], before[O_PROJ.format(0)])
    assert_same_bytes(found[O_PROJ.format(1)], before[O_PROJ.format(1)] + 1)


def test_normalize_counts_a_knob_that_lacks_the_tensor(base: Path, tmp_path: Path) -> None:
    truth = pair(base, tmp_path)
    found, before = merged(base, {"one": 0.75, "two": 0.25}, normalize=True), tensors_of(base)
    expected = {
        UP: 0.75 * truth["one"][UP] + 0.25 * truth["two"][UP],  # Σ λ = 1, also where only one of them adds
        NORM: 0.75 * truth["one"][NORM],
        EMBEDDING: 0.25 * truth["two"][EMBEDDING],
    }
    for name, delta in expected.items():
        torch.testing.assert_close(found[name].double(), before[name].double() + delta, rtol=0, atol=1e-7)
    half = merged(base, {"one": 1.5, "two": 0.5}, normalize=True)
    for name in expected:
        torch.testing.assert_close(half[name], found[name], rtol=0, atol=1e-7)


def test_normalize_refuses_coefficients_that_cancel(base: Path, tmp_path: Path) -> None:
    pair(base, tmp_path)
    with pytest.raises(ConfigError, match="must be above 0"):
        merged(base, {"one": 0.5, "two": -0.5}, normalize=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_a_damaged_delta_is_found_by_methods_that_need_it_whole(base: Path, tmp_path: Path, method: str) -> None:
    pair(base, tmp_path)
    path = tmp_path / "one/deltas.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x3c")
    with pytest.raises(VectorError, match=f"{path}: tensor .* is damaged"):
        merged(base, {"one": 1.0}, method=method)
    assert not (tmp_path / "out").exists()
