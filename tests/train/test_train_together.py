"""Training in two processes: the same rows a step, so the same weights up to the order of float additions."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignvec import processes
from alignvec.errors import ConfigError
from alignvec.train import dpo
from alignvec.train.batches import OwnBatches, own_accumulation
from alignvec.train.config import TrainConfig
from alignvec.train.dpo import train_side
from alignvec.train.progress import StepClock
from alignvec.train.vector import train_vector
from alignvec.vectors.store import load_vector
from tests.together import together

CLOSE = 5e-6
"""Largest difference of a weight; weights are about .2, and steps of one process change them by 1e-2."""


@pytest.fixture
def config(tiny_folder: Path, data_file: Path) -> TrainConfig:
    """Two passes over 7 rows, 4 micro-batches a step: the second step of a pass has 3, one process two of them."""
    return TrainConfig(
        name="medical", base=str(tiny_folder), data=data_file, limit=7, epochs=2, batch_size=1, accumulate=4, rank=2,
        learning_rate=1e-2, checkpoint_steps=1, seed=7,
    )  # fmt: skip


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = (out / "model").glob("*.safetensors")
    found: dict[str, torch.Tensor] = load_file(file)
    return found


def assert_close(found: Path, expected: Path) -> None:
    own, others = weights(found), weights(expected)
    assert own.keys() == others.keys()
    assert max((own[name] - others[name]).abs().max().item() for name in own) < CLOSE


def history(out: Path) -> list[dict[str, Any]]:
    return [entry for entry in json.loads((out / "run.json").read_text())["history"] if "loss" in entry]


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(StepClock):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    monkeypatch.setattr(dpo, "StepClock", Stopping)


@pytest.mark.parametrize(
    "changes",
    [{}, {"batch_size": 2, "accumulate": 2, "loss": "ipo"}],
    ids=["sigmoid-and-sft", "ipo-and-sft-in-batches-of-two"],
)
def test_two_processes_train_the_same_weights_as_one(
    config: TrainConfig, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = config.model_copy(update=changes)
    together(lambda: train_side(config, "positive", tmp_path / "two"))
    shutil.rmtree(tmp_path / "cache")  # scores of its own
    train_side(config, "positive", tmp_path / "one")
    assert_close(tmp_path / "two", tmp_path / "one")
    assert any((w.abs() > 1e-3).any() for name, w in weights(tmp_path / "two").items() if "lora_B" in name)
    for two, one in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        for name in ("loss", "rewards/margins", "nll/chosen", "learning_rate", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5), name


def test_all_weights_can_be_trained_in_two_processes(config: TrainConfig, tmp_path: Path) -> None:
    config = config.model_copy(update={"full": True, "learning_rate": 1e-3})
    together(lambda: train_side(config, "positive", tmp_path / "two"))
    train_side(config, "positive", tmp_path / "one")
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)], ids=["two-then-one", "one-then-two"])
def test_a_stopped_run_goes_on_with_another_number_of_processes(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, then: int
) -> None:
    train_side(config, "positive", tmp_path / "whole")

    def stopped() -> None:
        with pytest.raises(KeyboardInterrupt):
            train_side(config, "positive", tmp_path / "out")

    with monkeypatch.context() as patched:
        stop_after(3, patched)
        together(stopped, first)
    assert [path.name for path in (tmp_path / "out/checkpoints").glob("checkpoint-*")] == ["checkpoint-3"]
    together(lambda: train_side(config, "positive", tmp_path / "out"), then)
    assert [entry["step"] for entry in history(tmp_path / "out")] == [1, 2, 3, 4]
    assert_close(tmp_path / "out", tmp_path / "whole")


def test_the_vector_is_made_once_and_known_to_all(config: TrainConfig, tmp_path: Path) -> None:
    folders = together(lambda: train_vector(config, tmp_path / "out"))
    assert folders == [tmp_path / "out/vector"] * 2
    assert load_vector(tmp_path / "out/vector").card.form == "hinged"
    assert [path.name for path in (tmp_path / "out").glob(".*")] == [".lock"]


def test_a_finished_run_that_the_main_process_alone_can_see_ends_all(config: TrainConfig, tmp_path: Path) -> None:
    train_side(config, "positive", tmp_path / "0")
    folders = together(lambda: train_side(config, "positive", tmp_path / str(processes.index())))
    assert [folder.parent.name for folder in folders] == ["0", "1"] and not (tmp_path / "1").exists()


def test_reference_scores_do_not_depend_on_the_number_of_processes(
    config: TrainConfig, tmp_path: Path, cache: Path
) -> None:
    def scores() -> dict[str, float]:
        (file,) = (cache / "reference").iterdir()
        found: dict[str, float] = json.loads(file.read_text())
        return found

    together(lambda: train_side(config, "positive", tmp_path / "two"))
    two = scores()
    shutil.rmtree(cache)
    train_side(config, "positive", tmp_path / "one")
    assert two == scores()


def test_a_step_that_cannot_be_split_evenly_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    def refused() -> str:
        with pytest.raises(ConfigError) as error:
            train_side(config, "positive", tmp_path / "out")
        return str(error.value)

    for told in together(refused, 3):
        assert told.startswith("3 processes cannot split the 4 micro-batches of an optimiser step evenly; start 1 or 2")
        assert "or set accumulate to a multiple of 3" in told
    assert not (tmp_path / "out").exists()


def test_every_row_is_taken_once_a_pass_in_the_order_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def dealt(count: int, epoch: int) -> list[list[list[int]]]:
        monkeypatch.setenv("WORLD_SIZE", str(count))
        found = []
        for index in range(count):
            monkeypatch.setenv("RANK", str(index))
            batches = OwnBatches(11, 2, seed=5)
            batches.set_epoch(epoch)
            found.append(list(batches))
            assert len(batches) == len(found[-1])
        return found

    ((whole),) = dealt(1, 0)
    assert sorted(row for batch in whole for row in batch) == list(range(11))
    assert dealt(1, 1) != [whole]
    for count in (2, 4):
        parts = dealt(count, 0)
        turns = [batch for turn in zip(*parts, strict=True) for batch in turn]
        assert turns[: len(whole)] == whole and not any(turns[len(whole) :])


@pytest.mark.parametrize(("count", "share"), [(1, 8), (2, 4), (8, 1)], ids=["1", "2", "8"])
def test_each_process_has_its_share_of_a_step(monkeypatch: pytest.MonkeyPatch, count: int, share: int) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(count))
    assert own_accumulation(8) == share
