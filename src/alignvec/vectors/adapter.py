"""PEFT's LoRA adapter as a set of low-rank deltas, read and written."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from alignvec.errors import VectorError
from alignvec.vectors.delta import Delta, LowRankDelta

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."


def peft_config(deltas: Mapping[str, LowRankDelta], base_name: str) -> dict[str, object]:
    """Content of `adapter_config.json` for deltas whose scale is 1 (alpha equals rank, module by module)."""
    ranks = {name.removesuffix(".weight"): delta.rank for name, delta in deltas.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {name: r for name, r in ranks.items() if r != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": sorted(ranks),
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def in_adapter(name: str) -> bool:
    """Whether the adapter format holds low-rank factors of this tensor: a linear layer's weight, no embedding's.

    PEFT has factors for embeddings too, but there they leave a tied output head alone, which is another model.
    """
    module, _, leaf = name.rpartition(".")
    return leaf == "weight" and module.rpartition(".")[2] not in _EMBEDDINGS


_EMBEDDINGS = ("embed_tokens", "wte", "wpe", "embed_in", "tok_embeddings", "word_embeddings", "embed_positions")


def adapter_tensors(deltas: Mapping[str, LowRankDelta]) -> dict[str, torch.Tensor]:
    """Content of `adapter_model.safetensors`: the factors by PEFT's names."""
    tensors = {}
    for name, delta in deltas.items():
        module = _PREFIX + name.removesuffix(".weight")
        tensors[f"{module}.lora_A.weight"] = delta.a
        tensors[f"{module}.lora_B.weight"] = delta.b
    return tensors


def read_adapter(folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Delta]:
    """Deltas of a PEFT LoRA adapter folder; its scale (alpha / rank) is folded into b, exactly.

    Raises:
        VectorError: if it is no plain LoRA adapter (DoRA, biases, extra modules), is damaged or not finite.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VectorError(f"cannot read {folder / ADAPTER_CONFIG}: {error}; is it a PEFT adapter folder?") from None
    if not isinstance(config, dict) or "lora_alpha" not in config:
        raise VectorError(f"{folder / ADAPTER_CONFIG} is no configuration of a LoRA adapter (it has no lora_alpha)")
    _require_plain_lora(folder, config)
    tensors = _tensors(folder / ADAPTER)
    deltas: dict[str, Delta] = {}
    for key in [k for k in tensors if k.endswith(".lora_A.weight")]:
        module = key.removesuffix(".lora_A.weight")
        other = f"{module}.lora_B.weight"
        if other not in tensors:
            raise VectorError(f"{folder / ADAPTER} has {key} but no {other}; the adapter is incomplete")
        a, b = tensors.pop(key), tensors.pop(other)
        name = module.removeprefix(_PREFIX)
        rank = a.shape[0]
        alpha = float(_by_pattern(config.get("alpha_pattern"), name, config["lora_alpha"]))
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        deltas[f"{name}.weight"] = LowRankDelta(a.to(dtype), b.to(dtype) * scale)
    if tensors or not deltas:
        raise VectorError(f"{folder / ADAPTER} holds tensors that are no LoRA factors: {sorted(tensors)[:3]}")
    return deltas


_PLAIN_LORA: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "modules_to_save": (None, []),
    "fan_in_fan_out": (False, None),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None, []),
}


def _require_plain_lora(folder: Path, config: dict[str, object]) -> None:
    for key, allowed in _PLAIN_LORA.items():
        if config.get(key) not in allowed:
            raise VectorError(
                f"{folder / ADAPTER_CONFIG}: {key}={config[key]!r} has no exact low-rank delta; "
                "merge the adapter and extract from the two full models"
            )
    start = str(config.get("init_lora_weights"))
    if start.lower().startswith(_CHANGES_BASE):
        raise VectorError(
            f"{folder / ADAPTER_CONFIG}: init_lora_weights={start!r} changed the base weights too, so the factors are "
            "not the difference to the base; merge the adapter and extract from the two full models"
        )


_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def _by_pattern(pattern: object, name: str, default: float) -> float:
    if isinstance(pattern, dict):
        for key, value in pattern.items():
            if re.match(rf"(.*\.)?({key})$", name):  # as PEFT reads its patterns
                return float(value)
    return default


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise VectorError(f"no tensors at {path}; copy the whole folder again") from None
    except (SafetensorError, OSError) as error:
        raise VectorError(f"cannot read {path}: {error}; the file is truncated or damaged") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise VectorError(f"{path}: tensor {name} has values that are not finite")
    return tensors
