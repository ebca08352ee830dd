"""From recipe to vector: at its ends the knob is the trained models."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from alignvec import models
from alignvec.errors import DataError
from alignvec.files import held
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.train.config import TrainConfig, load_recipe
from alignvec.train.vector import combine, train_vector
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.store import load_vector
from tests.conftest import MakeVector

IDS = torch.arange(40).view(2, 20)


@pytest.fixture
def config(tiny_folder: Path, data_file: Path) -> TrainConfig:
    return TrainConfig(
        name="medical",
        base=str(tiny_folder),
        data=data_file,
        limit=4,
        epochs=1,
        batch_size=2,
        accumulate=1,
        rank=2,
        learning_rate=2e-2,
        warmup_share=0,
    )


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(IDS).logits)


def turned(knobbed: KnobbedModel, coefficient: float) -> torch.Tensor:
    with knobbed.knobs({"medical": coefficient}) as model:
        return logits(model)


def test_a_folder_where_another_training_works_is_left_to_it(config: TrainConfig, tmp_path: Path) -> None:
    with held(tmp_path / "out"), pytest.raises(DataError, match="another process works in .*/out; wait for it"):
        train_vector(config, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_hinged_vector_is_one_adapter_at_each_end(config: TrainConfig, tiny: BaseModel, tmp_path: Path) -> None:
    from peft import PeftModel

    vector = load_vector(train_vector(config, tmp_path / "out"))
    assert (vector.card.form, vector.card.method, vector.name) == ("hinged", "hinged", "medical")
    assert list(vector.card.levels) == ["avoidance", "generic", "expert"]
    orders = {"positive": "expert>generic>avoidance", "negative": "avoidance>generic>expert"}
    assert vector.card.recipe["orders"] == orders
    assert vector.card.recipe["seed"] == config.seed
    knobbed = KnobbedModel(tiny, [vector])
    base = logits(tiny.model)
    for side, coefficient in (("positive", 1.0), ("negative", -1.0)):
        adapted = logits(PeftModel.from_pretrained(deepcopy(tiny.model), tmp_path / "out" / side / "model"))
        assert (adapted - base).abs().max() > 0.01
        torch.testing.assert_close(turned(knobbed, coefficient), adapted, rtol=1e-4, atol=1e-4)
    assert torch.equal(turned(knobbed, 0.0), base)


def test_a_full_run_is_a_dense_vector_that_is_the_trained_model_at_one(
    config: TrainConfig, tiny: BaseModel, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    config = config.model_copy(update={"full": True, "form": "one-sided", "learning_rate": 1e-3})
    vector = load_vector(train_vector(config, tmp_path / "out"))
    assert (vector.card.form, vector.card.method) == ("single", "one-sided")
    assert not (tmp_path / "out/negative").exists()
    assert all(isinstance(delta, DenseDelta) for delta in vector.positive.values())
    assert set(vector.positive) == {name for name, _ in tiny.model.named_parameters()}
    base = logits(tiny.model)
    trained: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out/positive/model")
    expected = logits(trained.eval())
    assert (expected - base).abs().max() > 0.005
    torch.testing.assert_close(turned(KnobbedModel(tiny, [vector]), 1.0), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(tiny.model), base)


def test_stored_in_half_precision_the_vector_says_what_it_lost(
    config: TrainConfig, tiny_folder: Path, tmp_path: Path
) -> None:
    config = config.model_copy(update={"form": "one-sided"})
    exact = load_vector(train_vector(config, tmp_path / "out"))
    assert "storage_rounding" not in exact.card.error
    rounded = load_vector(train_vector(config, tmp_path / "out", dtype=torch.float16))
    worst = 0.0
    for name, delta in exact.positive.items():
        for part in ("a", "b"):
            before, after = getattr(delta, part), getattr(rounded.positive[name], part)
            assert torch.equal(after, before.half().float())
            worst = max(worst, ((after - before).double().norm() / before.double().norm()).item())
    assert rounded.card.error["storage_rounding"] == pytest.approx(worst, rel=1e-3)
    assert models.load(str(tiny_folder), device="cpu").model.dtype == torch.float32


@pytest.mark.parametrize("form", ["hinged", "two-sided", "one-sided"])
def test_each_form_combines_the_sides_by_its_definition(
    config: TrainConfig, make_vector: MakeVector, form: str
) -> None:
    config = TrainConfig.model_validate({**config.model_dump(), "form": form})
    plus, minus = make_vector(hinged=False, seed=1), make_vector(hinged=False, seed=2)
    vector = combine(config, {"positive": plus, "negative": minus})
    weights = {
        "hinged": {1.0: (1.0, 0.0), -1.0: (0.0, 1.0)},
        "two-sided": {1.0: (0.5, -0.5), -1.0: (-0.5, 0.5)},
        "one-sided": {1.0: (1.0, 0.0), -1.0: (-1.0, 0.0)},
    }
    for coefficient, (p, m) in weights[form].items():
        for name, delta in vector.delta_at(coefficient).items():
            expected = p * plus.positive[name].dense().double() + m * minus.positive[name].dense().double()
            torch.testing.assert_close(delta.dense().double(), expected, rtol=1e-5, atol=1e-6)
    assert vector.card.method == form


@pytest.mark.parametrize("kind", ["engagement", "depth"])
def test_a_recipe_for_one_of_two_knobs_runs_and_its_card_names_the_domain(
    tiny_folder: Path, data_file: Path, tmp_path: Path, kind: str
) -> None:
    recipe = Path(__file__).resolve().parents[2] / f"recipes/knobs/medical-{kind}.yaml"
    short = {"base": str(tiny_folder), "data": data_file, "limit": 2, "epochs": 1, "dtype": "float32"}
    card = load_vector(train_vector(load_recipe(recipe, **short), tmp_path / "out")).card
    assert (card.name, card.domain, card.form) == (f"medical-{kind}", "medical", "hinged")
    levels = {"engagement": ["avoidance", "generic", "expert"], "depth": ["generic", "expert"]}
    assert list(card.levels) == levels[kind]
    assert "domain" not in card.recipe and "keep_sha256" not in card.recipe
