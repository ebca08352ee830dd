"""Adapters that no vector can hold, or that do not fit their base, are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec.errors import VectorError
from alignvec.models import BaseModel
from alignvec.vectors.adapter import read_adapter
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.delta import LowRankDelta
from tests.vectors.peft_adapters import HEAD, change, write_adapter


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"target_modules": ["embed_tokens", "q_proj"]}, "lora_embedding_A"),
        ({"modules_to_save": ["model.norm"]}, "model.norm.weight"),
    ],
)
def test_without_the_base_only_linear_layers_are_read(
    untied: BaseModel, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    write_adapter(untied, tmp_path / "adapter", **config)
    with pytest.raises(VectorError, match=f"no LoRA factors of linear layers.*{named}.*alignvec extract"):
        read_adapter(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"base_model.model.{HEAD}", torch.ones(300, 32), r"as \[300, 32\], but in .* \[258, 32\]; the vocabulary was"),
        (
            "base_model.model.model.embed_tokens.base_layer.weight",
            torch.ones(258, 32),
            "trained on another model.embed",
        ),
        ("base_model.model.model.extra.weight", torch.ones(2), r"no LoRA factors: \['base_model.model.model.extra"),
        (f"base_model.model.{HEAD}", torch.full((258, 32), torch.nan), "lm_head.weight has values that are not finite"),
    ],
    ids=["resized", "another-base", "unknown", "nan"],
)
def test_tensors_that_do_not_fit_the_base_are_named(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, key: str, value: torch.Tensor, message: str
) -> None:
    write_adapter(untied, tmp_path / "adapter", target_modules=["embed_tokens"], modules_to_save=["lm_head"])
    change(tmp_path / "adapter", **{key: value})
    with pytest.raises(VectorError, match=message):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))


def test_weights_saved_without_being_asked_for_are_refused(
    untied: BaseModel, untied_folder: Path, tmp_path: Path
) -> None:
    write_adapter(untied, tmp_path / "adapter")
    change(tmp_path / "adapter", **{"base_model.model.model.norm.weight": torch.ones(32)})
    with pytest.raises(VectorError, match="no LoRA factors: .*norm.weight"):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"lora_bias": True}, "no LoRA factors.*lora_B.bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"trainable_token_indices": [3, 4]}, "trainable_token_indices"),
    ],
)
def test_what_no_delta_can_hold_stays_refused_beside_the_base(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    write_adapter(untied, tmp_path / "adapter", **config)
    with pytest.raises(VectorError, match=message):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_alpha": None}, "adapter_config.json gives .*q_proj no usable alpha"),
        ({"lora_alpha": "a"}, "no usable alpha: .*'a'"),
        ({"lora_alpha": []}, "no usable alpha"),
        ({"lora_alpha": 10**400}, "no usable alpha"),
        ({"alpha_pattern": {"[": 3}}, "no usable alpha"),
        ({"alpha_pattern": {"q_proj": None}}, "no usable alpha"),
        ({"lora_alpha": float("nan")}, r"not finite in torch.float32 at scale nan \(alpha / rank\)"),
        ({"lora_alpha": float("inf")}, "not finite in torch.float32 at scale inf"),
        ({"alpha_pattern": [1]}, "no usable alpha"),
        ({"use_rslora": "yes"}, "use_rslora='yes' has no exact low-rank delta"),
        ({"peft_type": None}, "peft_type=None has no exact low-rank delta"),
    ],
)
def test_settings_that_give_no_scale_are_refused_in_one_line(
    untied: BaseModel, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    write_adapter(untied, tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(VectorError, match=message) as caught:
        read_adapter(tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_factors_that_only_their_scale_makes_infinite_are_refused(untied: BaseModel, tmp_path: Path) -> None:
    write_adapter(untied, tmp_path / "adapter", lora_alpha=4_000_000)  # scale 1e6
    assert read_adapter(tmp_path / "adapter")
    with pytest.raises(VectorError, match=r"not finite in torch.float16 at scale 1e\+06"):
        read_adapter(tmp_path / "adapter", torch.float16)


def test_factors_whose_product_overflows_are_refused(untied: BaseModel, tmp_path: Path) -> None:
    write_adapter(untied, tmp_path / "adapter")
    name = "model.layers.0.self_attn.q_proj"
    a, b = (f"base_model.model.{name}.lora_{side}.weight" for side in "AB")
    change(tmp_path / "adapter", **{a: torch.full((4, 32), 1e18), b: torch.full((32, 4), 1e18)})
    assert torch.isfinite(read_adapter(tmp_path / "adapter")[f"{name}.weight"].dense()).all()
    change(tmp_path / "adapter", **{a: torch.full((4, 32), 1e30), b: torch.full((32, 4), 1e30)})
    with pytest.raises(VectorError, match=f"factors of {name}, or their product, are not finite"):
        read_adapter(tmp_path / "adapter")


def test_factors_in_eight_bits_are_read(untied: BaseModel, tmp_path: Path) -> None:
    write_adapter(untied, tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_model.safetensors"
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(path).items()}
    save_file(small, path, metadata={"format": "pt"})
    deltas, name = read_adapter(tmp_path / "adapter"), "model.layers.0.self_attn.q_proj"
    a, b = (small[f"base_model.model.{name}.lora_{side}.weight"].float() for side in "AB")
    assert torch.equal(deltas[f"{name}.weight"].dense(), LowRankDelta(a, b * 1.5).dense())
    small[f"base_model.model.{name}.lora_B.weight"][0, 0] = float("nan")
    save_file(small, path, metadata={"format": "pt"})
    with pytest.raises(VectorError, match=f"{name}.lora_B.weight has values that are not finite"):
        read_adapter(tmp_path / "adapter")


def test_an_adapter_without_tensors_is_refused(untied: BaseModel, tmp_path: Path) -> None:
    write_adapter(untied, tmp_path / "adapter")
    save_file({}, tmp_path / "adapter/adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VectorError, match=r"adapter_model.safetensors changes nothing; give the folder of"):
        read_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("shape", [(0, 32), ()])
def test_factors_of_rank_zero_are_refused(untied: BaseModel, tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_adapter(untied, tmp_path / "adapter")
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    b = torch.zeros(32, 0)
    change(tmp_path / "adapter", **{f"{module}.lora_A.weight": torch.zeros(shape), f"{module}.lora_B.weight": b})
    with pytest.raises(VectorError, match=f"{module}.lora_A.weight has rank 0"):
        read_adapter(tmp_path / "adapter")
