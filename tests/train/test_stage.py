"""Stages: merged models that are whole folders, made once, and that vectors can be trained on."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignvec import models
from alignvec.errors import AlignvecError, VectorError
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.train.config import TrainConfig, load_recipe
from alignvec.train.stage import train_stage, write_stage
from alignvec.train.vector import train_vector
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_vector, save_vector
from tests.conftest import MakeVector

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
IDS = torch.arange(40).view(2, 20)


@pytest.fixture
def safety(make_vector: MakeVector, tmp_path: Path) -> Path:
    save_vector(make_vector("safety", seed=3), tmp_path / "safety")
    return tmp_path / "safety"


def test_a_stage_is_the_base_with_the_knob_at_one(
    safety: Path, tiny: BaseModel, tiny_folder: Path, tmp_path: Path
) -> None:
    report = write_stage(safety, tmp_path / "stage", base=str(tiny_folder))
    stage = models.load(str(tmp_path / "stage"), device="cpu")
    assert (report.base_fingerprint, report.fingerprint) == (fingerprint(tiny_folder), fingerprint(stage.folder))
    assert stage.tokenizer.chat_template == tiny.tokenizer.chat_template
    assert {t.dtype for t in load_file(stage.folder / "model.safetensors").values()} == {torch.float32}
    with torch.no_grad(), KnobbedModel(tiny, [load_vector(safety)]).knobs({"safety": 1.0}) as model:
        expected = model(IDS).logits
    with torch.no_grad():
        torch.testing.assert_close(stage.model(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_stage_that_is_there_is_not_written_again_and_another_is_refused(
    safety: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    first = write_stage(safety, tmp_path / "stage", base=str(tiny_folder))
    weights = tmp_path / "stage/model.safetensors"
    before = weights.stat()
    assert write_stage(safety, tmp_path / "stage", base=str(tiny_folder)) == first
    assert (weights.stat().st_mtime_ns, weights.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    again = write_stage(safety, tmp_path / "again", base=str(tiny_folder))
    assert again.fingerprint == first.fingerprint
    assert (tmp_path / "again/model.safetensors").read_bytes() == weights.read_bytes()
    with pytest.raises(AlignvecError, match="another merge is there"):
        write_stage(safety, tmp_path / "stage", base=str(tiny_folder), coefficient=0.5)
    with pytest.raises(VectorError, match="belongs to base"):
        write_stage(safety, tmp_path / "third", base=str(tmp_path / "stage"))


def test_a_supervised_stage_likes_its_replies_better_and_a_vector_can_be_trained_on_it(
    tiny: BaseModel, tiny_folder: Path, data_file: Path, tmp_path: Path
) -> None:
    config = TrainConfig(
        name="sft", base=str(tiny_folder), data=data_file, goal={"medical": "generic"}, loss="sft", epochs=2,
        batch_size=2, accumulate=1, rank=2, learning_rate=2e-2,
    )  # fmt: skip
    report = train_stage(config, tmp_path / "sft")
    stage = models.load(str(tmp_path / "sft/stage"), device="cpu")
    assert report.fingerprint == fingerprint(stage.folder) != fingerprint(tiny_folder)
    chat = [
        {"role": "user", "content": "How do I sleep better, take 1?"},
        {"role": "assistant", "content": "Keep regular hours, skip late coffee and dim the lights, number 1."},
    ]
    ids = tiny.tokenizer(tiny.tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before, after = (model(input_ids=ids, labels=ids).loss.item() for model in (tiny.model, stage.model))
    assert after < before - 0.5
    native = TrainConfig(
        name="medical", base=str(stage.folder), data=data_file, limit=2, epochs=1, form="one-sided", rank=2
    )
    card = load_vector(train_vector(native, tmp_path / "native")).card
    assert card.base.fingerprint == report.fingerprint


def test_the_shipped_stage_recipe_is_supervised_on_generic_replies() -> None:
    recipe = load_recipe(RECIPES / "stages/sft.yaml")
    assert (recipe.name, recipe.loss, recipe.form) == ("sft", "sft", "one-sided")
    assert recipe.goal == dict.fromkeys(("medical", "legal", "financial"), "generic")
