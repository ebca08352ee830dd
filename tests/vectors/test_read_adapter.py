"""Adapters with more than linear factors are read as PEFT merges them."""

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
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from tests.vectors.peft_adapters import EMBEDDING, HEAD, NORM, change, write_adapter

Tensors = dict[str, torch.Tensor]


def merged_difference(base: BaseModel, adapted: Any) -> Tensors:
    """What PEFT's merge adds to the base, in float64, where it adds anything."""
    before = dict(base.model.named_parameters())
    merged = dict(adapted.merge_and_unload().named_parameters())
    found = {name: (weight.double() - before[name].double()).detach() for name, weight in merged.items()}
    return {name: value for name, value in found.items() if value.any()}


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["embed_tokens", "lm_head", "up_proj"], "use_rslora": True},
        {
            "target_modules": ["embed_tokens", "q_proj"],
            "rank_pattern": {"embed_tokens": 7},
            "alpha_pattern": {"embed_tokens": 3},
        },
        {"modules_to_save": ["model.norm", "lm_head", "embed_tokens"]},
        {"target_modules": ["embed_tokens", "q_proj"], "modules_to_save": ["lm_head", "input_layernorm"]},
    ],
    ids=["embedding", "head-rslora", "patterns", "saved", "both"],
)
def test_what_peft_merges_is_what_is_read(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    expected = merged_difference(untied, write_adapter(untied, tmp_path / "adapter", **config))
    found = read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))
    assert set(found) == set(expected)
    for name, delta in found.items():
        torch.testing.assert_close(delta.dense().double(), expected[name], rtol=0, atol=1e-6)
        saved = name.removesuffix(".weight").endswith(tuple(config.get("modules_to_save", ())))
        assert isinstance(delta, DenseDelta if saved else LowRankDelta)


def test_a_saved_module_that_did_not_change_is_left_out(untied: BaseModel, untied_folder: Path, tmp_path: Path) -> None:
    write_adapter(untied, tmp_path / "adapter", modules_to_save=["model.norm", "lm_head"])
    change(tmp_path / "adapter", **{"base_model.model.model.norm.weight": untied.model.model.norm.weight.detach()})
    assert {NORM, HEAD} & set(read_adapter(tmp_path / "adapter", base=open_checkpoint(untied_folder))) == {HEAD}


def rank_three(shape: tuple[int, int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(shape[0], 3, generator=generator) @ torch.randn(3, shape[1], generator=generator)


@pytest.mark.parametrize("tied", [True, False])
def test_the_layout_that_mergekit_extracts_is_read(
    tiny_folder: Path, untied_folder: Path, tmp_path: Path, tied: bool
) -> None:
    """Factors for embedding and head even where they are tied, and every norm saved whole."""
    folder = tiny_folder if tied else untied_folder
    change_of = {EMBEDDING: rank_three((258, 32), 1), HEAD: rank_three((258, 32), 1 if tied else 2)}
    tensors = {}
    for name, value in change_of.items():
        u, s, v = torch.linalg.svd(value.double(), full_matrices=False)
        a, b = (s[:3, None] * v[:3]).float().contiguous(), u[:, :3].float().contiguous()
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if name == EMBEDDING:
            tensors |= {f"{module}.lora_embedding_A": b.T.contiguous(), f"{module}.lora_embedding_B": a.T.contiguous()}
        else:
            tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    before = load_file(folder / "model.safetensors")
    tensors |= {f"base_model.model.{name}": t + (name == NORM) for name, t in before.items() if "norm" in name}
    config = {
        "peft_type": "LORA",
        "use_rslora": False,
        "target_modules": ["lm_head", "embed_tokens"],
        "modules_to_save": ["input_layernorm", "post_attention_layernorm", "norm"],
        "r": 3,
        "lora_alpha": 3,
        "fan_in_fan_out": False,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    expected = {**change_of, NORM: torch.ones(32)}
    if tied:
        del expected[HEAD]
    found = read_adapter(tmp_path, base=open_checkpoint(folder))
    assert set(found) == set(expected)
    for name, delta in found.items():
        torch.testing.assert_close(delta.dense(), expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", [0.0, 0.01])
def test_the_bases_own_copy_beside_the_factors_may_be_rounded_but_not_changed(tmp_path: Path, change: float) -> None:
    (tmp_path / "base").mkdir()
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    save_file({EMBEDDING: weight}, tmp_path / "base/model.safetensors")
    (tmp_path / "base/config.json").write_text('{"tie_word_embeddings": false}')
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    module = "base_model.model.model.embed_tokens"
    tensors = {f"{module}.lora_embedding_A": torch.ones(1, 6), f"{module}.lora_embedding_B": torch.ones(4, 1)}
    tensors[f"{module}.base_layer.weight"] = (weight + change).bfloat16()
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    if change:
        with pytest.raises(VectorError, match=f"trained on another {EMBEDDING}"):
            read_adapter(tmp_path, base=open_checkpoint(tmp_path / "base"))
    else:
        assert torch.equal(
            read_adapter(tmp_path, base=open_checkpoint(tmp_path / "base"))[EMBEDDING].dense(), torch.ones(6, 4)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_saved_whole_are_read_in_the_dtype_that_is_asked_for(
    untied: BaseModel, untied_folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    write_adapter(untied, tmp_path / "adapter", modules_to_save=["model.norm"])
    found = read_adapter(tmp_path / "adapter", dtype, open_checkpoint(untied_folder))
    norm, factors = found[NORM], found["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(norm, DenseDelta) and isinstance(factors, LowRankDelta)
    assert norm.value.dtype == factors.a.dtype == factors.b.dtype == dtype
