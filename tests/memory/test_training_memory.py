"""Memory by formula, against published counts and against what autograd really keeps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alignvec import models
from alignvec.errors import ModelError
from alignvec.logprobs import EncodedReplies, pack, reply_logprobs
from alignvec.memory.serving import serving_memory
from alignvec.memory.shape import BUILT_IN, shape_of
from alignvec.memory.training import training_memory
from alignvec.tiny_model import write_tiny_model
from alignvec.train.config import TrainConfig
from alignvec.train.memory import launched_strategy, recipe_memory

PUBLISHED = {"llama-3-8b": 8_030_261_248, "llama-3-70b": 70_553_706_496, "mistral-7b": 7_241_732_096}
"""Parameters, as the models' own files have them."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_known_shapes_have_the_published_numbers_of_parameters(name: str) -> None:
    assert shape_of(name).parameters == PUBLISHED[name]


def test_a_folder_needs_no_weights(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_folder / "config.json").read_bytes())
    shape = shape_of(str(tmp_path))
    model = models.load(str(tiny_folder), device="cpu").model
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    assert shape.outside + shape.layers * shape.layer_parameters == shape.parameters
    assert len(shape.linears) == 2 * 7


def test_factors_are_as_many_as_peft_makes(tiny_folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = models.load(str(tiny_folder), device="cpu").model
    adapted: Any = get_peft_model(base, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape_of(str(tiny_folder)).factors(3) == adapted.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        (
            {"model_type": "gpt_neox", "vocab_size": 50304, "num_hidden_layers": 6, "hidden_size": 512}
            | {"intermediate_size": 2048, "num_attention_heads": 8},
            70_426_624,
        ),
        ({"model_type": "gpt2"}, 124_439_808),
    ],
    ids=["pythia-70m", "gpt2"],
)
def test_models_of_other_names_for_their_sizes_are_known(
    tmp_path: Path, settings: dict[str, Any], parameters: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    shape = shape_of(str(tmp_path))
    assert shape.parameters == parameters  # as the models' own files have them
    assert shape.kv_heads == shape.heads and shape.intermediate == 4 * shape.hidden
    assert len(shape.linears) == 4 * shape.layers
    assert sum(i * o for i, o in shape.linears) == 12 * shape.layers * shape.hidden**2
    assert shape.outside + shape.layers * shape.layer_parameters == shape.parameters
    assert shape.layer_parameters > 12 * shape.hidden**2


@pytest.mark.parametrize("content", ["{}", "not json", '{"model_type": "t5"}'], ids=["empty", "no-json", "encoder"])
def test_a_config_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match="cannot tell the shape"):
        shape_of(str(tmp_path))


def kept_bytes(folder: Path, rank: int | None, dtype: str, length: int) -> int:
    """What autograd keeps of one packed row for the backward pass, weights apart."""
    from peft import LoraConfig, get_peft_model

    base = models.load(str(folder), dtype=dtype, device="cpu")
    model = base.model
    if rank is not None:
        settings = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, settings)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    row = EncodedReplies(tuple(range(length - 30)), (tuple(range(29)),))
    batch = pack([row], pad_id=0, dtype=base.model.dtype, device=base.device)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        reply_logprobs(model, batch).sum()
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights)


@pytest.mark.parametrize(
    ("rank", "dtype"), [(2, "float32"), (2, "bfloat16"), (None, "float32")], ids=["lora", "lora-bfloat16", "full"]
)
def test_activations_are_what_autograd_keeps(tmp_path: Path, rank: int | None, dtype: str) -> None:
    folder = write_tiny_model(tmp_path / "model", hidden=256)
    shape = shape_of(str(folder))

    def estimated(length: int) -> int:
        return training_memory(shape, rank=rank, dtype=dtype, length=length, replied=29).activations

    # The difference of two lengths leaves out what does not grow with tokens, such as logits, and the mask's square.
    def square(length: int) -> int:
        return length**2 * torch.finfo(getattr(torch, dtype)).bits // 8

    short, long = 100, 228
    grown = kept_bytes(folder, rank, dtype, long) - kept_bytes(folder, rank, dtype, short)
    grown -= square(long) - square(short)
    assert estimated(long) - estimated(short) == pytest.approx(grown, rel=0.1)


def test_sharding_divides_what_zero_says_it_does() -> None:
    shape = shape_of("llama-3-8b")
    one = training_memory(shape, rank=None)
    eight = training_memory(shape, rank=None, strategy="zero3", processes=8)
    # 4 bytes each of weights, gradients and two moments, as in arXiv 1910.02054 without half precision
    assert one.weights + one.gradients + one.optimizer == 16 * shape.parameters
    assert eight.weights + eight.gradients + eight.optimizer == 2 * shape.parameters
    everyone = training_memory(shape, rank=16, strategy="ddp", processes=8, dtype="bfloat16")
    assert everyone.weights == 2 * shape.parameters + 4 * everyone.trained
    assert everyone.communication == everyone.gradients


def test_recomputing_keeps_less_and_never_less_than_the_layers_inputs() -> None:
    shape = shape_of("llama-3-70b")
    whole, less = (training_memory(shape, dtype="bfloat16", length=1024, checkpointing=on) for on in (False, True))
    inputs = 1024 * shape.layers * shape.hidden * 2
    assert inputs < less.activations < whole.activations / 20
    assert less.total == whole.total - whole.activations + less.activations


def test_serving_counts_keys_and_values_of_every_token() -> None:
    shape = shape_of("llama-3-8b")
    held = serving_memory(shape, vectors=3, rank=16, dtype="bfloat16", tokens=1000)
    assert held.token == 2 * 32 * 8 * 128 * 2  # keys and values, layers, heads, width, bytes
    assert held.vectors == 3 * 2 * shape.factors(16) * 4
    assert held.total == 2 * shape.parameters + held.vectors + held.stacked + 1000 * held.token


def test_a_recipe_is_estimated_by_its_longest_row(tiny_folder: Path, data_file: Path) -> None:
    config = TrainConfig(name="medical", base=str(tiny_folder), data=data_file, rank=2)
    found = recipe_memory(config)
    shape = shape_of(str(tiny_folder))
    assert (found.strategy, found.processes, found.trained) == ("single", 1, shape.factors(2))
    at_most = training_memory(shape, rank=2, length=config.max_length)
    assert 0 < found.activations < at_most.activations and 0 < found.logits < at_most.logits


@pytest.mark.parametrize(
    ("environment", "strategy"),
    [
        ({}, "ddp"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "zero3"),
        ({"WORLD_SIZE": "1"}, "single"),
        ({"WORLD_SIZE": "1", "ACCELERATE_USE_FSDP": "true"}, "fsdp"),
    ],
    ids=["ddp", "fsdp", "zero3", "one", "fsdp-of-one"],
)
def test_the_launch_tells_the_strategy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], strategy: str
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", **environment}.items():
        monkeypatch.setenv(name, value)
    assert launched_strategy() == strategy
