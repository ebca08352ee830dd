"""Adapters of a base that ties its output head: both ends of the embedding change as one, or the adapter is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec.errors import VectorError
from alignvec.models import BaseModel
from alignvec.vectors.adapter import read_adapter
from alignvec.vectors.checkpoint import open_checkpoint
from tests.vectors.peft_adapters import EMBEDDING, HEAD, change, write_adapter

IDS = torch.arange(40).view(2, 20)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
        {"modules_to_save": ["embed_tokens", "model.norm"], "ensure_weight_tying": True},
    ],
    ids=["factors", "saved"],
)
def test_on_a_tied_base_one_delta_stands_for_both_ends(
    tiny: BaseModel, tiny_folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    adapted = write_adapter(tiny, tmp_path / "adapter", **config)
    found = read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))
    assert EMBEDDING in found and HEAD not in found
    with torch.no_grad():
        expected = adapted(IDS).logits
        for name, weight in tiny.model.named_parameters():
            if name in found:
                weight += found[name].dense()
        torch.testing.assert_close(tiny.model(IDS).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "end"),
    [
        ({"target_modules": ["embed_tokens", "q_proj"]}, EMBEDDING),
        ({"target_modules": ["lm_head", "q_proj"]}, HEAD),
        ({"target_modules": ["embed_tokens", "lm_head"]}, f"{EMBEDDING}|{HEAD}"),  # both, but not the same
        ({"modules_to_save": ["embed_tokens"]}, EMBEDDING),
        ({"modules_to_save": ["lm_head"]}, HEAD),
    ],
    ids=["embedding", "head", "unlike", "saved-embedding", "saved-head"],
)
def test_one_end_of_a_tied_embedding_is_refused(
    tiny: BaseModel, tiny_folder: Path, tmp_path: Path, config: dict[str, Any], end: str
) -> None:
    write_adapter(tiny, tmp_path / "adapter", **config)
    with pytest.raises(VectorError, match=f"changes ({end}), but .* ties its output head"):
        read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1 + 1e-4])
def test_ends_of_a_tied_embedding_are_one_delta_only_if_both_add_the_same(
    tiny: BaseModel, tiny_folder: Path, tmp_path: Path, scale: float
) -> None:
    """Factors that were not trained yet add nothing to either end, which is the same."""
    write_adapter(tiny, tmp_path / "adapter", target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True)
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    head = next(name for name in tensors if "lm_head" in name and "B" in name.rpartition("lora_")[2])
    ends = [
        name for name in tensors if name.endswith((".lora_embedding_A", ".lora_embedding_B", "lm_head.lora_B.weight"))
    ]
    assert head in tensors and ends
    change(
        tmp_path / "adapter",
        **({name: 0 * tensors[name] for name in ends} if not scale else {head: tensors[head] * scale}),
    )
    if scale > 1:
        with pytest.raises(VectorError, match="ties its output head"):
            read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))
    else:
        assert bool(
            read_adapter(tmp_path / "adapter", base=open_checkpoint(tiny_folder))[EMBEDDING].dense().any()
        ) == bool(scale)


def test_a_tied_embedding_of_an_unknown_name_is_refused_as_one_end(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    save_file(
        {"x.tok_embeddings.weight": torch.ones(6, 4), "x.up.weight": torch.ones(4, 4)},
        tmp_path / "base/model.safetensors",
    )
    (tmp_path / "base/config.json").write_text('{"tie_word_embeddings": true}')
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    factors = {"x.up.lora_A.weight": torch.ones(1, 4), "x.up.lora_B.weight": torch.ones(4, 1)}
    base = open_checkpoint(tmp_path / "base")
    save_file(factors, tmp_path / "adapter_model.safetensors")
    assert list(read_adapter(tmp_path, base=base)) == ["x.up.weight"]
    ends = {
        "x.tok_embeddings.lora_embedding_A": torch.ones(1, 6),
        "x.tok_embeddings.lora_embedding_B": torch.ones(4, 1),
    }
    save_file(factors | ends, tmp_path / "adapter_model.safetensors")
    with pytest.raises(VectorError, match=r"changes x.tok_embeddings.weight, but .* ties its output head"):
        read_adapter(tmp_path, base=base)
