"""Training that goes on from a vector: where it begins, and which vectors it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignvec.errors import ConfigError, VectorError
from alignvec.tiny_model import TEMPLATE, write_tiny_model
from alignvec.train import dpo
from alignvec.train.config import TrainConfig, make_config
from alignvec.train.dpo import train_side
from alignvec.train.progress import TrainingProgress
from alignvec.train.vector import train_vector
from alignvec.vectors.algebra import sides
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector


@pytest.fixture
def start(make_vector: MakeVector, tmp_path: Path) -> AlignmentVector:
    """A hinged vector of rank 2, stored in `start`."""
    return save_vector(make_vector(), tmp_path / "start")


@pytest.fixture
def config(tiny_folder: Path, data_file: Path, tmp_path: Path, start: AlignmentVector) -> TrainConfig:
    """Training that moves nothing that can be seen."""
    assert start.negative
    return TrainConfig(
        name="medical",
        base=str(tiny_folder),
        data=data_file,
        start=tmp_path / "start",
        limit=4,
        epochs=1,
        batch_size=2,
        accumulate=1,
        rank=2,
        learning_rate=1e-9,
        checkpoint_steps=1,
    )


def factors(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(folder / "adapter_model.safetensors")
    return tensors


@pytest.mark.parametrize("rank", [2, 3])
def test_each_side_begins_as_the_vectors_side(
    config: TrainConfig, start: AlignmentVector, rank: int, tmp_path: Path
) -> None:
    config = config.model_copy(update={"rank": rank})
    found = load_vector(train_vector(config, tmp_path / "out"))
    assert start.negative and found.negative
    for mine, begun in ((found.positive, start.positive), (found.negative, start.negative)):
        assert set(mine) == set(begun)
        for name, delta in begun.items():
            assert getattr(mine[name], "rank", None) == rank
            torch.testing.assert_close(mine[name].dense(), delta.dense(), rtol=1e-4, atol=1e-5)
    history = json.loads((tmp_path / "out/positive/run.json").read_text())["history"]
    assert abs(history[0]["rewards/margins"]) > 0.01  # measured against the base, not against the start


def test_a_killed_continuation_goes_on_from_its_checkpoint_not_from_the_start(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config.model_copy(update={"learning_rate": 1e-2})
    whole = train_side(config, "positive", tmp_path / "whole")

    class Killer(TrainingProgress):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.on_train_end(args, state, control)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dpo, "TrainingProgress", Killer)
        train_side(config, "positive", tmp_path / "killed")
    resumed = train_side(config, "positive", tmp_path / "killed")
    first, second = (factors(folder) for folder in (whole, resumed))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-5, atol=1e-5)


def test_another_vector_at_the_same_place_is_another_run(
    config: TrainConfig, make_vector: MakeVector, tmp_path: Path
) -> None:
    train_side(config, "positive", tmp_path / "out")
    save_vector(make_vector(seed=5), tmp_path / "start")
    with pytest.raises(ConfigError, match="a finished run with another start_files"):
        train_side(config, "positive", tmp_path / "out")


def test_a_single_vector_starts_a_one_sided_run_only(
    config: TrainConfig, start: AlignmentVector, tmp_path: Path
) -> None:
    save_vector(sides(start)[0], tmp_path / "single")
    config = config.model_copy(update={"start": tmp_path / "single"})
    with pytest.raises(VectorError, match="has no negative side .* form: one-sided"):
        train_side(config, "positive", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found = load_vector(train_vector(config.model_copy(update={"form": "one-sided"}), tmp_path / "one"))
    for name, delta in start.positive.items():
        torch.testing.assert_close(found.positive[name].dense(), delta.dense(), rtol=1e-4, atol=1e-5)


def test_a_vector_that_does_not_fit_is_refused(
    config: TrainConfig, start: AlignmentVector, make_vector: MakeVector, tmp_path: Path
) -> None:
    def told(message: str, **update: Any) -> None:
        with pytest.raises(VectorError, match=message) as refusal:
            train_side(config.model_copy(update=update), "positive", tmp_path / "out")
        assert "\n" not in str(refusal.value)

    told("no vector at .*none", start=tmp_path / "none")
    told("has rank 2 in .*, more than the recipe's 1; set rank: 2", rank=1)
    told("belongs to base .* not to the recipe's", base=str(write_tiny_model(tmp_path / "other", seed=1)))
    same = write_tiny_model(tmp_path / "same")
    (same / "chat_template.jinja").write_text(TEMPLATE.replace("assistant", "helper"))
    told("made with another chat template or vocabulary than the recipe's base .*same", base=str(same))
    norm = {"model.norm.weight": DenseDelta(torch.ones(32))}
    save_vector(replace(start, positive={**start.positive, **norm}), tmp_path / "dense")
    told("not low-rank in model.norm.weight; compress it", start=tmp_path / "dense")
    head = {"lm_head.weight": make_vector().positive["model.layers.0.self_attn.q_proj.weight"]}
    save_vector(replace(start, positive=head), tmp_path / "head")
    told("changes lm_head.weight, which low-rank training leaves alone", start=tmp_path / "head")


def test_full_training_has_no_start() -> None:
    with pytest.raises(ConfigError, match="start goes on from low-rank factors"):
        make_config("recipe", {"name": "a", "full": True, "start": "somewhere"})
