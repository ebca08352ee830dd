"""Training one side: what it writes, that it goes on after a kill, and that it never mixes two recipes."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignvec.errors import AlignvecError, ConfigError, StorageError
from alignvec.train import dpo, reference
from alignvec.train.config import TrainConfig
from alignvec.train.dpo import train_side
from alignvec.train.listwise import ListwiseDPOTrainer
from alignvec.train.progress import TrainingProgress


@pytest.fixture
def config(tiny_folder: Path, data_file: Path) -> TrainConfig:
    """Four steps of two rows each, a checkpoint at every step."""
    return TrainConfig(
        name="medical",
        base=str(tiny_folder),
        data=data_file,
        epochs=1,
        batch_size=2,
        accumulate=1,
        rank=2,
        learning_rate=1e-2,
        checkpoint_steps=1,
        seed=7,
    )


class Killed(BaseException):
    pass


def adapter(model: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(model / "adapter_model.safetensors")
    return tensors


def assert_same_adapter(found: Path, expected: Path) -> None:
    tensors, others = adapter(found), adapter(expected)
    assert set(tensors) == set(others)
    for name, tensor in others.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=1e-5, atol=1e-5)


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make training die when the checkpoint of that step has been written."""

    class Killer(TrainingProgress):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                self.on_train_end(args, state, control)  # a real kill would end the bar's thread too
                raise Killed

    monkeypatch.setattr(dpo, "TrainingProgress", Killer)


def watch_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the optimiser steps that are taken from now on."""
    taken: list[int] = []

    class Watcher(TrainingProgress):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            taken.append(state.global_step)

    monkeypatch.setattr(dpo, "TrainingProgress", Watcher)
    return taken


def test_a_run_leaves_an_adapter_a_record_and_a_picture(config: TrainConfig, tmp_path: Path) -> None:
    model = train_side(config, "negative", tmp_path / "out")
    assert model == tmp_path / "out/model"
    assert json.loads((model / "adapter_config.json").read_text())["r"] == 2
    assert any(t.any() for name, t in adapter(model).items() if "lora_B" in name)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["config"] == config.model_dump(mode="json")
    assert (record["side"], record["order"]) == ("negative", "avoidance>generic>expert")
    assert (record["config"]["seed"], record["rows"]) == (7, 8)
    assert {"torch", "trl", "peft", "alignvec"} <= set(record["provenance"]["versions"])
    assert [entry["step"] for entry in record["history"] if "loss" in entry] == [1, 2, 3, 4]
    assert (tmp_path / "out/training.png").read_bytes().startswith(b"\x89PNG")


def test_margins_start_at_zero_and_grow(config: TrainConfig, tmp_path: Path) -> None:
    config = config.model_copy(update={"epochs": 3, "learning_rate": 2e-2, "checkpoint_steps": 100})
    train_side(config, "positive", tmp_path / "out")
    history = [e for e in json.loads((tmp_path / "out/run.json").read_text())["history"] if "loss" in e]
    assert history[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert history[0]["margins_per_token"] == pytest.approx(0, abs=1e-4)
    assert history[-1]["rewards/margins"] > 0.1
    assert history[-1]["margins_per_token"] > 0.01
    assert history[-1]["rewards/accuracies"] > history[0]["rewards/accuracies"]


def test_a_finished_run_is_not_trained_again(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train_side(config, "positive", tmp_path / "out")
    before = adapter(model)

    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("trained again")

    monkeypatch.setattr(ListwiseDPOTrainer, "train", fail)
    assert train_side(config, "positive", tmp_path / "out") == model
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapter(model).items())


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_side(config, "positive", tmp_path / "whole")
    kill_after(2, monkeypatch)
    with pytest.raises(Killed):
        train_side(config, "positive", tmp_path / "killed")
    taken = watch_steps(monkeypatch)
    resumed = train_side(config, "positive", tmp_path / "killed")
    assert taken == [3, 4]
    assert_same_adapter(resumed, whole)
    history = json.loads((tmp_path / "killed/run.json").read_text())["history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4]


def test_a_run_that_fails_takes_its_progress_bar_down(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[TrainingProgress] = []

    class Failing(TrainingProgress):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            bars.append(self)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dpo, "TrainingProgress", Failing)
    try:
        with pytest.raises(StorageError, match="no space left"):
            train_side(config, "positive", tmp_path / "out")
        assert bars and not any(bar._bar.live.is_started for bar in bars)
    finally:
        for bar in bars:
            bar.on_train_end(None, None, None)


@pytest.mark.parametrize("left", [[], ["adapter_config.json", "adapter_model.safetensors"]], ids=["empty", "weights"])
def test_a_run_killed_while_it_wrote_a_checkpoint_goes_on_from_the_one_before(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    whole = train_side(config, "positive", tmp_path / "whole")
    kill_after(2, monkeypatch)
    with pytest.raises(Killed):
        train_side(config, "positive", tmp_path / "killed")
    checkpoints = tmp_path / "killed/checkpoints"
    (checkpoints / "checkpoint-3").mkdir()
    for name in left:
        (checkpoints / "checkpoint-3" / name).write_bytes((checkpoints / "checkpoint-2" / name).read_bytes())
    watch_steps(monkeypatch)
    assert_same_adapter(train_side(config, "positive", tmp_path / "killed"), whole)


def test_a_run_begun_before_a_key_was_there_goes_on(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train_side(config, "positive", tmp_path / "out")
    begun = tmp_path / "out" / dpo.STARTED
    record = json.loads(begun.read_text())
    record["config"] = {k: v for k, v in record["config"].items() if k not in ("domain", "keep", "start")}
    begun.write_text(json.dumps(record))
    taken = watch_steps(monkeypatch)
    assert train_side(config, "positive", tmp_path / "out") == model and not taken
    with pytest.raises(ConfigError, match="a finished run with another config"):
        train_side(config.model_copy(update={"domain": "legal"}), "positive", tmp_path / "out")


def test_another_recipe_is_refused_where_a_run_is_finished(config: TrainConfig, tmp_path: Path) -> None:
    train_side(config, "positive", tmp_path / "out")
    for other, side in ((config.model_copy(update={"beta": 0.2}), "positive"), (config, "negative")):
        with pytest.raises(ConfigError, match=f"{tmp_path / 'out'} holds a finished run with another"):
            train_side(other, side, tmp_path / "out")


def test_another_recipe_is_refused_where_a_run_was_killed(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after(2, monkeypatch)
    with pytest.raises(Killed):
        train_side(config, "positive", tmp_path / "out")
    watch_steps(monkeypatch)
    with pytest.raises(AlignvecError, match=str(tmp_path / "out")):
        train_side(config.model_copy(update={"beta": 0.2}), "positive", tmp_path / "out")


def test_reference_scores_are_computed_once(
    config: TrainConfig, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_side(config, "positive", tmp_path / "first")
    assert len(list((cache / "reference").glob("*.json"))) == 1

    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("scored the base again")

    monkeypatch.setattr(dpo, "score_base", fail)
    again = train_side(config, "positive", tmp_path / "second")
    assert_same_adapter(again, tmp_path / "first/model")
    train_side(config.model_copy(update={"limit": 3}), "negative", tmp_path / "third")


def test_a_damaged_reference_cache_is_no_obstacle(config: TrainConfig, tmp_path: Path, cache: Path) -> None:
    whole = train_side(config, "positive", tmp_path / "first")
    for path in (cache / "reference").glob("*.json"):
        path.write_text(path.read_text()[:-20])
    try:
        again = train_side(config, "positive", tmp_path / "second")
    except AlignvecError as error:
        assert str(cache) in str(error)
    else:
        assert_same_adapter(again, whole)


def test_another_base_has_other_reference_scores(config: TrainConfig, tmp_path: Path) -> None:
    from alignvec import models
    from alignvec.logprobs import EncodedReplies
    from tests.conftest import write_tiny_model

    encoded = [EncodedReplies((1, 2, 3), ((4, 5), (6,)))]
    found = []
    for folder in (Path(config.base), write_tiny_model(tmp_path / "other", seed=1)):
        base = models.load(str(folder), device="cpu")
        for _ in range(2):
            scores = reference.cached_reference(base, encoded, lambda b=base: dpo.score_base(b, encoded, 1))
        found.append(scores)
        with torch.no_grad():
            for reply, score in zip(encoded[0].replies, scores[0], strict=True):
                logits = base.model(torch.tensor([[1, 2, 3, *reply]])).logits[0, 2:-1].double().log_softmax(-1)
                assert score == pytest.approx(logits.gather(1, torch.tensor(reply)[:, None]).sum().item(), rel=1e-5)
    assert found[0] != found[1]


def test_a_query_that_does_not_fit_is_refused_before_anything_is_trained(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(AlignvecError, match="more than the 40 allowed"):
        train_side(config.model_copy(update={"max_length": 40}), "positive", tmp_path / "out")
    assert not (tmp_path / "out/run.json").exists()
