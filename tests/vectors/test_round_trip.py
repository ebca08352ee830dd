"""What is saved is what is loaded, in the dtype that is asked for, and what PEFT reads."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignvec.errors import VectorError
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector
from tests.vectors.stored import ADAPTERS, assert_identical, tensors_of

IDS = torch.arange(40).view(2, 20)


@pytest.mark.parametrize("hinged", [False, True])
def test_a_round_trip_changes_no_bit(make_vector: MakeVector, tmp_path: Path, hinged: bool) -> None:
    vector = make_vector(hinged=hinged)
    stored = save_vector(vector, tmp_path / "v")
    loaded = load_vector(tmp_path / "v")
    assert_identical(loaded.positive, vector.positive)
    assert_identical(loaded.negative, vector.negative)
    card = loaded.card.model_dump(mode="json")
    assert card == stored.card.model_dump(mode="json")
    assert {**card, "files": {}} == vector.card.model_dump(mode="json")
    assert set(loaded.card.files) == set(ADAPTERS[: 1 + hinged])


def test_dense_and_mixed_vectors_round_trip(make_vector: MakeVector, tmp_path: Path) -> None:
    low = make_vector(hinged=False)
    dense: dict[str, Delta] = {"model.norm.weight": DenseDelta(torch.randn(32)), "x": DenseDelta(torch.randn(3, 2))}
    for number, deltas in enumerate((dense, {**low.positive, **dense})):
        save_vector(AlignmentVector(low.card, deltas), tmp_path / f"v{number}")
        assert_identical(load_vector(tmp_path / f"v{number}").positive, deltas)


def test_half_precision_storage_records_its_rounding(make_vector: MakeVector, tmp_path: Path) -> None:
    vector = make_vector(hinged=True)
    stored = save_vector(vector, tmp_path / "v", dtype=torch.float16)
    loaded = load_vector(tmp_path / "v")
    exact = [*tensors_of(vector.positive).values(), *tensors_of(vector.negative).values()]
    worst = max(((t.half().double() - t.double()).norm() / t.double().norm()).item() for t in exact)
    assert worst > 1e-5
    assert stored.card.error["storage_rounding"] == pytest.approx(worst, rel=1e-3)
    assert loaded.card.error == stored.card.error
    for name, tensor in tensors_of(vector.negative).items():
        assert torch.equal(tensors_of(loaded.negative)[name], tensor.half().float())


@pytest.mark.parametrize("before", [0.0, 0.25])
def test_the_worst_rounding_of_a_vectors_storages_stays_on_its_card(
    make_vector: MakeVector, tmp_path: Path, before: float
) -> None:
    vector = make_vector()
    card = vector.card.model_copy(update={"error": {"storage_rounding": before}})
    stored = save_vector(replace(vector, card=card), tmp_path / "v", dtype=torch.float16)
    assert stored.card.error["storage_rounding"] == 0.25 if before else 0 < stored.card.error["storage_rounding"] < 1e-3


def test_a_value_that_overflows_the_storage_dtype_is_refused(make_vector: MakeVector, tmp_path: Path) -> None:
    vector = replace(
        make_vector(hinged=False), positive={"w.weight": LowRankDelta(torch.ones(1, 2), torch.full((2, 1), 1e6))}
    )
    with pytest.raises(VectorError, match=r"'medical' is not finite in torch.float16"):
        save_vector(vector, tmp_path / "v", dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["adapter", "dense"])
def test_a_vector_is_loaded_in_the_dtype_that_is_asked_for(
    make_vector: MakeVector, tmp_path: Path, dtype: torch.dtype, form: str
) -> None:
    low = make_vector(hinged=False)
    dense: dict[str, Delta] = {"model.norm.weight": DenseDelta(torch.randn(32))}
    vector = low if form == "adapter" else AlignmentVector(low.card, dense)
    save_vector(vector, tmp_path / "v")
    for name, tensor in tensors_of(load_vector(tmp_path / "v", dtype=dtype).positive).items():
        assert torch.equal(tensor, tensors_of(vector.positive)[name].to(dtype)) and tensor.dtype == dtype


def test_peft_reads_both_sides_as_they_are(make_vector: MakeVector, tiny: BaseModel, tmp_path: Path) -> None:
    from peft import PeftModel

    vector, wide = make_vector(rank=2), make_vector(rank=5, seed=3)
    assert vector.negative is not None
    mixed = {n: wide.positive[n] if "up_proj" in n or ".0.self_attn.q" in n else d for n, d in vector.positive.items()}
    vector = replace(vector, positive=mixed)
    save_vector(vector, tmp_path / "v")
    knobbed = KnobbedModel(tiny, [vector])
    for folder, coefficient, deltas in ((tmp_path / "v", 1.0, mixed), (tmp_path / "v/negative", -1.0, vector.negative)):
        assert deltas is not None
        merged = deepcopy(tiny.model)
        weights = dict(merged.named_parameters())
        with torch.no_grad():
            for name, delta in deltas.items():
                weights[name] += delta.dense()
            by_peft = PeftModel.from_pretrained(deepcopy(tiny.model), folder)(IDS).logits
            with knobbed.knobs({"medical": coefficient}) as model:
                by_knob = model(IDS).logits
            torch.testing.assert_close(by_peft, merged(IDS).logits, rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(by_knob, by_peft, rtol=1e-5, atol=1e-4)
            assert (by_peft - tiny.model(IDS).logits).abs().max() > 0.01


def test_the_adapters_settings_are_what_peft_needs_for_scale_one(tmp_path: Path, make_vector: MakeVector) -> None:
    shapes = {"x.up": 3, "x.down": 3, "x.q": 5}
    low: dict[str, Delta] = {f"{n}.weight": LowRankDelta(torch.ones(r, 4), torch.ones(6, r)) for n, r in shapes.items()}
    vector = replace(make_vector(hinged=False), positive=low)
    save_vector(vector, tmp_path / "v")
    assert json.loads((tmp_path / "v/adapter_config.json").read_text()) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": vector.card.base.name,
        "r": 3,
        "lora_alpha": 3,
        "rank_pattern": {"x.q": 5},
        "alpha_pattern": {"x.q": 5},
        "target_modules": ["x.down", "x.q", "x.up"],
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
