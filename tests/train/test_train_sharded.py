"""Training with sharded weights (FSDP2) in processes on the CPU: the same weights as with one that holds them all.

accelerate shards over GPUs alone, so its state is told that the CPU is one; everything after that is its own.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_train_together import assert_close, history, stop_after

from alignvec.errors import ConfigError
from alignvec.train.config import TrainConfig
from alignvec.train.dpo import train_side
from tests.together import together

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_TORCH_DEVICE": "cpu",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


@pytest.fixture
def config(tiny_folder: Path, data_file: Path) -> TrainConfig:
    """Two passes over 7 rows, 4 micro-batches a step, the last of a pass not full."""
    return TrainConfig(
        name="medical", base=str(tiny_folder), data=data_file, limit=7, epochs=2, batch_size=1, accumulate=4, rank=2,
        learning_rate=1e-2, checkpoint_steps=1, seed=7,
    )  # fmt: skip


def sharded(work: Callable[[], Any], **environment: str) -> Callable[[], Any]:
    def run() -> Any:
        import torch
        from accelerate.state import PartialState
        from accelerate.utils import DistributedType

        os.environ |= {**FSDP, **environment}
        PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
        torch.distributed.init_process_group("gloo")
        return work()

    return run


@pytest.mark.parametrize("efficient", ["false", "true"], ids=["all-load", "one-loads"])
def test_sharded_weights_are_trained_to_those_of_one_process(
    config: TrainConfig, tmp_path: Path, efficient: str
) -> None:
    work = sharded(lambda: train_side(config, "positive", tmp_path / "two"), FSDP_CPU_RAM_EFFICIENT_LOADING=efficient)
    together(work)
    assert (tmp_path / "two/checkpoints/checkpoint-4/pytorch_model_fsdp_0").is_dir()
    train_side(config, "positive", tmp_path / "one")
    assert_close(tmp_path / "two", tmp_path / "one")
    for two, one in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["rewards/margins"] == pytest.approx(one["rewards/margins"], rel=1e-3, abs=1e-4)


def test_a_sharded_run_goes_on_with_more_processes(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped() -> None:
        with pytest.raises(KeyboardInterrupt):
            train_side(config, "positive", tmp_path / "out")

    with monkeypatch.context() as patched:
        stop_after(3, patched)
        together(sharded(stopped))
    with pytest.raises(ConfigError, match="checkpoint-3 holds fsdp weights and this launch whole ones"):
        train_side(config, "positive", tmp_path / "out")
    together(sharded(lambda: train_side(config, "positive", tmp_path / "out")), 4)
    assert [entry["step"] for entry in history(tmp_path / "out")] == [1, 2, 3, 4]
    train_side(config, "positive", tmp_path / "whole")
    assert_close(tmp_path / "out", tmp_path / "whole")


def test_all_weights_cannot_be_trained_sharded(config: TrainConfig, tmp_path: Path) -> None:
    def refused() -> None:
        with pytest.raises(ConfigError, match="all weights cannot be trained sharded"):
            train_side(config.model_copy(update={"full": True}), "positive", tmp_path / "out")

    together(sharded(refused))
