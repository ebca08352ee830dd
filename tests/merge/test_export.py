"""Exported sums against closed forms, and loaded in PEFT against knobs turned here."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignvec.errors import KnobError, StorageError, VectorError
from alignvec.merge import export
from alignvec.merge.export import compose, composition, export_peft
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.adapter import read_adapter
from alignvec.vectors.compress import compress, parse_form
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector, write_tiny_model

IDS = torch.arange(40).view(2, 20)
K = "model.layers.0.self_attn.k_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


def dense_sum(vectors: list[AlignmentVector], knobs: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Σ λ·Δ in float64, from the definition."""
    total: dict[str, torch.Tensor] = {}
    for vector in vectors:
        coefficient = knobs.get(vector.name, 0.0)
        below = coefficient < 0 and vector.negative is not None
        side = vector.negative if below else vector.positive
        for name, delta in (side or {}).items():
            assert isinstance(delta, LowRankDelta)
            change = (abs(coefficient) if below else coefficient) * (delta.b.double() @ delta.a.double())
            total[name] = total.get(name, torch.zeros(1, dtype=torch.float64)) + change
    return total


def largest_error(found: Mapping[str, LowRankDelta], expected: Mapping[str, torch.Tensor]) -> float:
    assert set(found) == set(expected)
    return max((found[n].b.double() @ found[n].a.double() - e).abs().max().item() for n, e in expected.items())


def peft_logits(base: BaseModel, folder: Path, scale: float = 1.0) -> torch.Tensor:
    """Logits of the base with an adapter loaded by PEFT, its scaling multiplied by `scale`."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    model = PeftModel.from_pretrained(deepcopy(base.model), folder)
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    assert layers
    for layer in layers:
        layer.scaling["default"] *= scale
    with torch.no_grad():
        logits: torch.Tensor = model(IDS).logits
    return logits


def knobbed_logits(base: BaseModel, vectors: list[AlignmentVector], knobs: Mapping[str, float]) -> torch.Tensor:
    with torch.no_grad(), KnobbedModel(base, vectors).knobs(knobs) as model:
        logits: torch.Tensor = model(IDS).logits
    return logits


def some(vector: AlignmentVector, part: str) -> AlignmentVector:
    """The vector without the tensors whose names lack `part`."""
    kept = [{n: d for n, d in side.items() if part in n} for side in (vector.positive, vector.negative or {})]
    return replace(vector, positive=kept[0], negative=kept[1] if vector.negative is not None else None)


@pytest.mark.parametrize(
    "knobs", [{"medical": 0.5, "legal": -0.3}, {"medical": -1.5}, {"legal": 2.0, "medical": 0.0}, {"legal": -1.0}]
)
def test_a_composition_is_the_sum_of_its_definition(make_vector: MakeVector, knobs: dict[str, float]) -> None:
    vectors = [make_vector("medical", seed=1), some(make_vector("legal", hinged=False, rank=3, seed=2), "proj")]
    turned = [v for v in vectors if knobs.get(v.name)]
    assert largest_error(compose(vectors, knobs), dense_sum(turned, knobs)) < 1e-7


def test_factors_are_concatenated_and_kept(make_vector: MakeVector) -> None:
    medical, legal = make_vector("medical", seed=1), make_vector("legal", rank=3, seed=2)
    found = compose([medical, legal], {"medical": 1.0, "legal": 1.0})[K]
    first, second = medical.positive[K], legal.positive[K]
    assert isinstance(first, LowRankDelta) and isinstance(second, LowRankDelta)
    assert torch.equal(found.a, torch.cat([first.a, second.a]))
    assert torch.equal(found.b, torch.cat([first.b, second.b], dim=1))


def test_no_rank_exceeds_what_the_weight_can_have(make_vector: MakeVector) -> None:
    vectors = [make_vector("medical", rank=10, seed=1), make_vector("legal", rank=9, seed=2)]
    knobs = {"medical": 0.7, "legal": -0.4}
    found = compose(vectors, knobs)
    assert found[K].shape == (16, 32)
    assert found[K].rank == 16
    assert found[K.replace("k_proj", "q_proj")].rank == 19
    assert largest_error(found, dense_sum(vectors, knobs)) < 1e-6


def test_a_truncated_rank_is_the_best_of_that_rank_and_its_error_is_told(
    make_vector: MakeVector, tiny_folder: Path
) -> None:
    vectors, knobs = (
        [make_vector("medical", rank=4, seed=1), make_vector("legal", rank=3, seed=2)],
        {
            "medical": 0.7,
            "legal": -0.4,
        },
    )
    composed = composition(vectors, knobs, str(tiny_folder), rank=3)
    lost = size = 0.0
    for name, value in dense_sum(vectors, knobs).items():
        singular = torch.linalg.svdvals(value)
        lost, size = lost + singular[3:].square().sum().item(), size + singular.square().sum().item()
        found = composed.deltas[name]
        error = (found.b.double() @ found.a.double() - value).norm().item()
        assert error == pytest.approx(singular[3:].norm().item(), rel=1e-5)
    assert composed.report.ranks == {3: 14}
    assert composed.report.relative_error == pytest.approx((lost / size) ** 0.5, rel=1e-6)


def test_float16_is_told_by_its_error(make_vector: MakeVector, tiny_folder: Path) -> None:
    vectors, knobs = [make_vector("medical", seed=1)], {"medical": 0.3}
    composed = composition(vectors, knobs, str(tiny_folder), dtype=torch.float16)
    lost = size = 0.0
    for name, value in dense_sum(vectors, knobs).items():
        found = composed.deltas[name]
        assert found.a.dtype == found.b.dtype == torch.float16
        lost += (found.b.double() @ found.a.double() - value).square().sum().item()
        size += value.square().sum().item()
    assert composed.report.relative_error == pytest.approx((lost / size) ** 0.5, rel=1e-4)
    assert 1e-5 < composed.report.relative_error < 1e-3


@pytest.mark.parametrize("coefficient", [1.0, 0.4, 2.5, -1.0, -0.6])
def test_peft_at_scale_lambda_gives_our_logits(
    tiny: BaseModel, make_vector: MakeVector, tmp_path: Path, coefficient: float
) -> None:
    vector = make_vector("medical", rank=3)
    save_vector(vector, tmp_path / "vector")
    expected = knobbed_logits(tiny, [vector], {"medical": coefficient})
    side = tmp_path / "vector" / ("negative" if coefficient < 0 else "")
    assert (expected - knobbed_logits(tiny, [vector], {})).abs().max() > 0.1
    torch.testing.assert_close(peft_logits(tiny, side, abs(coefficient)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "knobs",
    [{"medical": 0.5, "legal": -0.3}, {"medical": -1.0, "legal": 1.0}, {"medical": -0.7}, {"legal": -2.0}],
)
def test_an_exported_setting_in_peft_is_the_turned_knobs(
    tiny: BaseModel, make_vector: MakeVector, tmp_path: Path, knobs: dict[str, float]
) -> None:
    vectors = [make_vector("medical", seed=1), some(make_vector("legal", rank=3, seed=2), ".1.mlp")]
    export_peft(composition(vectors, knobs, tiny.name), tmp_path / "out")
    expected = knobbed_logits(tiny, vectors, knobs)
    torch.testing.assert_close(peft_logits(tiny, tmp_path / "out"), expected, rtol=1e-4, atol=1e-5)
    assert (expected - knobbed_logits(tiny, vectors, {})).abs().max() > 0.05


def test_an_export_is_read_back_bit_for_bit(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> None:
    vectors = [make_vector("medical", seed=1), some(make_vector("legal", rank=3, seed=2), "mlp")]
    composed = composition(vectors, {"medical": 0.3, "legal": -0.9}, str(tiny_folder))
    assert composed.report.ranks == {2: 8, 5: 6}
    export_peft(composed, tmp_path / "out")
    found = read_adapter(tmp_path / "out")
    assert set(found) == set(composed.deltas)
    for name, delta in found.items():
        assert isinstance(delta, LowRankDelta)
        assert torch.equal(delta.a, composed.deltas[name].a) and torch.equal(delta.b, composed.deltas[name].b)


def test_the_report_says_what_it_is_made_of(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> None:
    vectors = []
    for name in ("medical", "legal"):
        save_vector(make_vector(name), tmp_path / name)
        vectors.append(load_vector(tmp_path / name))
    export_peft(composition(vectors, {"medical": 0.5, "legal": 0.0}, str(tiny_folder)), tmp_path / "out")
    report = json.loads((tmp_path / "out/alignvec.json").read_text())
    files = list((tmp_path / "medical").rglob("*.safetensors"))
    assert report["vectors"] == {
        "medical": {str(p.relative_to(tmp_path / "medical")): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    }
    assert len(files) == 2
    assert report["knobs"] == {"medical": 0.5, "legal": 0.0}
    assert (report["base"], report["base_fingerprint"]) == (str(tiny_folder), vectors[0].card.base.fingerprint)
    assert (report["tensors"], report["ranks"], report["relative_error"]) == (14, {"2": 14}, 0.0)
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_folder)


@pytest.mark.parametrize("knobs", [{}, {"medical": 0.0}])
def test_nothing_to_export_is_told(make_vector: MakeVector, knobs: dict[str, float]) -> None:
    with pytest.raises(KnobError, match="nothing to export"):
        compose([make_vector()], knobs)


@pytest.mark.parametrize("knobs", [{"medcal": 1.0}, {"medical": float("nan")}, {"medical": float("inf")}])
def test_a_knob_that_cannot_be_turned_is_named(make_vector: MakeVector, knobs: dict[str, float]) -> None:
    with pytest.raises(KnobError, match=next(iter(knobs))):
        compose([make_vector()], knobs)


def test_dense_deltas_are_refused_only_where_they_are_turned(make_vector: MakeVector) -> None:
    vector = make_vector()
    assert vector.negative is not None
    negative = {**vector.negative, "model.norm.weight": DenseDelta(torch.ones(32))}
    mixed = replace(vector, negative=negative)
    assert len(compose([mixed], {"medical": 1.0})) == 14
    with pytest.raises(VectorError, match=r"model\.norm\.weight.*shape \[32\].*alignvec merge"):
        compose([mixed], {"medical": -1.0})
    with pytest.raises(VectorError, match=rf"{K}.*alignvec compress .*--form rank=16"):
        compose([replace(vector, negative={**vector.negative, K: DenseDelta(torch.ones(16, 32))})], {"medical": -1.0})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("model.norm.weight", (32,)), ("score.weight", (1, 32)), ("experts.weight", (2, 3, 4)), (EMBEDDING, (258, 32))],
)
@pytest.mark.parametrize("form", [None, "rank=2", "sign"])
def test_what_no_adapter_can_hold_is_told_before_compressing_is_advised(
    make_vector: MakeVector, name: str, shape: tuple[int, ...], form: str | None
) -> None:
    deltas = {K: DenseDelta(torch.ones(16, 32)), name: DenseDelta(torch.ones(shape))}
    full = replace(make_vector(hinged=False), positive=deltas)
    with pytest.raises(VectorError, match=f"{name}.*alignvec merge") as told:
        compose([compress(full, parse_form(form)) if form else full], {"medical": 1.0})
    assert "compress" not in str(told.value)


def test_an_embedding_is_refused(make_vector: MakeVector) -> None:
    vector = make_vector(hinged=False)
    factors = LowRankDelta(torch.ones(1, 32), torch.ones(258, 1))
    with pytest.raises(VectorError, match=f"{EMBEDDING}.*tied.*alignvec merge"):
        compose([replace(vector, positive={**vector.positive, EMBEDDING: factors})], {"medical": 1.0})


def test_another_base_is_refused_unless_wanted(make_vector: MakeVector, tmp_path: Path) -> None:
    sibling, bigger = write_tiny_model(tmp_path / "a", seed=5), write_tiny_model(tmp_path / "b", hidden=64)
    knobs = {"medical": 1.0}
    with pytest.raises(VectorError, match="belongs to base.*--allow-other-base"):
        composition([make_vector()], knobs, str(sibling))
    assert composition([make_vector()], knobs, str(sibling), allow_other_base=True).report.base == str(sibling)
    with pytest.raises(VectorError, match=r"'medical' changes .* but here it is"):
        composition([make_vector()], knobs, str(bigger), allow_other_base=True)


def test_an_overflow_is_told(make_vector: MakeVector, tiny_folder: Path) -> None:
    with pytest.raises(VectorError, match=r"not finite in torch.float16.*float32"):
        composition([make_vector()], {"medical": 1e6}, str(tiny_folder), dtype=torch.float16)


def test_only_an_earlier_export_is_replaced(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> None:
    composed = composition([make_vector()], {"medical": 1.0}, str(tiny_folder))
    save_vector(make_vector(), tmp_path / "vector")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/alignvec.json").write_text("{}")
    (tmp_path / "file").write_text("mine")
    for name in ("vector", "merged", "file"):
        with pytest.raises(StorageError, match=f"{name}: something else .* --out"):
            export_peft(composed, tmp_path / name)
    assert (tmp_path / "vector/card.json").is_file() and (tmp_path / "file").read_text() == "mine"
    export_peft(composed, tmp_path / "out")
    export_peft(composition([make_vector()], {"medical": 0.25}, str(tiny_folder)), tmp_path / "out")
    assert json.loads((tmp_path / "out/alignvec.json").read_text())["knobs"] == {"medical": 0.25}


def test_a_failed_write_leaves_the_earlier_export(
    make_vector: MakeVector, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_peft(composition([make_vector()], {"medical": 1.0}, str(tiny_folder)), tmp_path / "out")
    before = load_file(tmp_path / "out/adapter_model.safetensors")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    with pytest.raises(StorageError, match="no space left"):
        export_peft(composition([make_vector()], {"medical": 0.5}, str(tiny_folder)), tmp_path / "out")
    after = load_file(tmp_path / "out/adapter_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
