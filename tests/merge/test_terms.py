"""Realised coefficients against inner products and least squares in float64 over all entries."""

from pathlib import Path

import numpy as np
import pytest
import torch
from merging import EMBEDDING, NORM, UP, recipe, save, tensors_of, write_base
from safetensors.torch import save_file

from alignvec.merge import sums
from alignvec.merge.run import merge
from alignvec.merge.terms import Overlap, Term
from alignvec.vectors.delta import DenseDelta, LowRankDelta

Sizes = dict[str, torch.Tensor]
LARGE = "extra.large"


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of standard deviation 0.02, as a model's are, a million of them, in thousands of blocks."""
    monkeypatch.setattr(sums, "BLOCK", 256)
    folder = write_base(tiny_folder, tmp_path / "base", extra={LARGE: torch.empty(1000, 1000)})
    generator = torch.Generator().manual_seed(0)
    tensors = {n: 0.02 * torch.randn(t.shape, generator=generator) for n, t in tensors_of(folder).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def small(base: Path, folder: Path, seed: int, *, like: Sizes | None = None) -> Sizes:
    """Save a vector of changes of about 2e-5 to four tensors, partly the same as `like`; returns ΔW in float64."""
    before, generator = tensors_of(base), torch.Generator().manual_seed(seed)
    a, b = (torch.randn(*s, generator=generator) for s in ((2, 32), (64, 2)))
    deltas = {
        UP: LowRankDelta(a * 2e-5, b),
        EMBEDDING: DenseDelta(2e-5 * torch.randn(before[EMBEDDING].shape, generator=generator)),
        NORM: DenseDelta(2e-5 * torch.randn(32, generator=generator)),
        LARGE: DenseDelta(2e-5 * torch.randn(1000, 1000, generator=generator)),
    }
    if like:
        for name in (EMBEDDING, NORM, LARGE):
            deltas[name] = DenseDelta((deltas[name].dense().double() + 0.7 * like[name]).float())
    save(base, folder, deltas)
    truth = {UP: b.double() @ (a * 2e-5).double()}
    return truth | {n: d.value.double() for n, d in deltas.items() if isinstance(d, DenseDelta)}


def flat(values: Sizes) -> np.ndarray:
    return torch.cat([values[name].double().reshape(-1) for name in (UP, EMBEDDING, NORM, LARGE)]).numpy()


def change(base: Path, out: Path) -> np.ndarray:
    before, after = tensors_of(base), tensors_of(out)
    return flat(after) - flat(before)


@pytest.mark.parametrize("probed", [1, None])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_one_vector(
    base: Path, tmp_path: Path, dtype: str, probed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if probed:
        monkeypatch.setattr(sums, "PROBED", probed)
    truth = flat(small(base, tmp_path / "one", 1))
    asked = recipe(base, {"one": 0.5}, dtype=dtype)
    found = merge(asked, tmp_path / "out", vectors={"one": tmp_path / "one"}).knobs["one"].realised
    assert found is not None
    exact = change(base, tmp_path / "out") @ truth / (truth @ truth)
    assert found == pytest.approx(exact, rel=1e-4 if probed else 0.05)
    if dtype == "float32":
        assert found == pytest.approx(0.5, rel=1e-3)


def test_bfloat16_loses_what_stochastic_rounding_keeps(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "PROBED", 1)
    tensors = {n: t.bfloat16() for n, t in tensors_of(base).items()}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    truth = flat(small(base, tmp_path / "one", 1))
    found = {}
    for rounding in ("nearest", "stochastic"):
        asked = recipe(base, {"one": 0.2}, rounding=rounding)
        report = merge(asked, tmp_path / rounding, vectors={"one": tmp_path / "one"})
        found[rounding] = report.knobs["one"].realised
        exact = change(base, tmp_path / rounding) @ truth / (truth @ truth)
        assert found[rounding] == pytest.approx(exact, rel=1e-4)
    # the mean is λ; of n entries the rounding noise of steps s leaves a deviation of at most |s ∘ Δ| / (2 |Δ|²)
    steps = flat(tensors_of(base)).__abs__() * 2.0**-7
    assert abs(found["stochastic"] - 0.2) < 5 * np.linalg.norm(steps * truth) / (2 * truth @ truth)


def test_two_vectors_that_point_partly_the_same_way(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "PROBED", 1)
    one = small(base, tmp_path / "one", 1)
    two = small(base, tmp_path / "two", 2, like=one)
    columns = np.stack([flat(one), flat(two)], axis=1)
    assert 0.3 < np.corrcoef(columns.T)[0, 1] < 0.9
    asked = recipe(base, {"two": -1.5, "one": 0.5}, dtype="bfloat16")
    report = merge(asked, tmp_path / "out", vectors={name: tmp_path / name for name in ("one", "two")})
    expected = np.linalg.lstsq(columns, change(base, tmp_path / "out"), rcond=None)[0]
    assert list(report.knobs) == ["two", "one"]
    assert report.knobs["one"].realised == pytest.approx(expected[0], rel=1e-3)
    assert report.knobs["two"].realised == pytest.approx(expected[1], rel=1e-3)


def test_a_hinged_vector_below_zero_and_a_schedule(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "PROBED", 1)
    before = tensors_of(base)
    side = {EMBEDDING: DenseDelta(0.1 * torch.ones_like(before[EMBEDDING]))}
    save(base, tmp_path / "two", {NORM: DenseDelta(torch.ones(32))}, side)
    asked = recipe(base, {"two": {"coefficient": -0.5, "layers": [0.5, 1.0]}})
    report = merge(asked, tmp_path / "out", vectors={"two": tmp_path / "two"})
    assert report.knobs["two"].realised == pytest.approx(-0.5, rel=1e-5)  # of what was asked for at each layer
    after = tensors_of(tmp_path / "out")
    torch.testing.assert_close(after[EMBEDDING], before[EMBEDDING] + 0.025)
    assert torch.equal(after[NORM], before[NORM])


def test_what_cannot_be_told_apart_or_is_not_turned_is_none(base: Path, tmp_path: Path) -> None:
    for name in ("one", "same", "still"):
        small(base, tmp_path / name, 1)
    asked = recipe(base, {"one": 0.5, "same": 0.25, "still": 0.0})
    report = merge(asked, tmp_path / "out", vectors={name: tmp_path / name for name in asked.knobs})
    assert [knob.realised for knob in report.knobs.values()] == [None, None, None]
    alone = merge(recipe(base, {"one": 0.5, "still": 0.0}), tmp_path / "alone", vectors={
        name: tmp_path / name for name in ("one", "still")
    })  # fmt: skip
    assert alone.knobs["still"].realised is None
    assert alone.knobs["one"].realised == pytest.approx(0.5, rel=1e-3)


def test_overlaps_add_up_and_survive_json() -> None:
    terms = [Term(name, 2.0, {}, {}) for name in ("one", "two")]
    columns = np.random.default_rng(0).normal(size=(50, 2))
    target = np.random.default_rng(1).normal(size=50)
    total = Overlap.zero(2)
    for rows in (slice(0, 20), slice(20, 50)):
        part = torch.from_numpy(columns[rows])
        total += Overlap.from_json(Overlap(part.T @ torch.from_numpy(target[rows]), part.T @ part).to_json())
    expected = 2.0 * np.linalg.lstsq(columns, target, rcond=None)[0]
    assert list(total.realised(terms).values()) == pytest.approx(expected.tolist())
    assert Overlap.from_json(Overlap.zero(0).to_json()).realised([]) == {}
