"""Adapters written by PEFT, and changed afterwards."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from alignvec.models import BaseModel

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


def write_adapter(base: BaseModel, folder: Path, **config: Any) -> Any:
    """Save a LoRA adapter all of whose trained weights moved; returns the PEFT model."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    options: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(deepcopy(base.model), LoraConfig(**{**options, **config}))
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape))
    adapted.save_pretrained(folder)
    return adapted


def change(adapter: Path, **tensors: torch.Tensor) -> None:
    """Replace or add tensors of an adapter."""
    path = adapter / "adapter_model.safetensors"
    save_file({**load_file(path), **tensors}, path, metadata={"format": "pt"})
