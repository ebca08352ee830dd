"""PEFT's LoRA adapter as a set of low-rank deltas, read and written."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from alignvec.errors import VectorError
from alignvec.vectors.adapter_settings import read_settings, stated
from alignvec.vectors.checkpoint import Checkpoint, tied_twin
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta

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


def read_adapter(folder: Path, dtype: torch.dtype = torch.float32, base: Checkpoint | None = None) -> dict[str, Delta]:
    """Deltas of a PEFT LoRA adapter folder; its scale (alpha / rank) is folded into b, exactly.

    Factors of an embedding give a low-rank delta too, and weights that were saved whole (`modules_to_save`) a dense
    one, if they differ from the base's.

    Args:
        dtype: of the deltas.
        base: the model it was trained on; without it only factors of linear layers are read.

    Raises:
        VectorError: if it is no plain LoRA adapter (DoRA, biases), needs the base, does not fit it, changes one end of
            a tied embedding only, is damaged or not finite.
    """
    config = read_settings(folder / ADAPTER_CONFIG)
    tensors = _tensors(folder / ADAPTER)
    plain = {key for key in tensors if key.endswith(_LINEAR)}
    if base is None and (other := sorted(tensors.keys() - plain)):
        raise VectorError(
            f"{folder / ADAPTER} holds tensors that are no LoRA factors of linear layers: {other[:3]}; embeddings and "
            "modules_to_save can be read beside the base model only, so make a vector of it with alignvec extract"
        )
    deltas = _low_rank(folder, config, tensors, dtype)
    if base is not None:
        deltas |= _saved_whole(folder, config, tensors, dtype, base)
        _tie_head(folder, deltas, base)
    if tensors:
        raise VectorError(f"{folder / ADAPTER} holds tensors that are no LoRA factors: {sorted(tensors)[:3]}")
    if not deltas:
        raise VectorError(f"{folder / ADAPTER} changes nothing; give the folder of an adapter that was trained")
    return deltas


_LINEAR = (".lora_A.weight", ".lora_B.weight")
_EMBEDDING = (".lora_embedding_A", ".lora_embedding_B")


def _low_rank(
    folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, Delta]:
    """Deltas of the factors, which are taken out of `tensors`."""
    deltas: dict[str, Delta] = {}
    for first, second in (_LINEAR, _EMBEDDING):
        for key in [k for k in tensors if k.endswith(first)]:
            module = key.removesuffix(first)
            if module + second not in tensors:
                raise VectorError(f"{folder / ADAPTER} has {key} but no {module + second}; the adapter is incomplete")
            a, b = tensors.pop(key), tensors.pop(module + second)
            name = module.removeprefix(_PREFIX)
            rank = a.shape[0] if a.ndim else 0
            if not rank:
                raise VectorError(
                    f"{folder / ADAPTER}: {key} has rank 0, so it changes nothing; make the adapter again"
                )
            alpha = stated(folder / ADAPTER_CONFIG, config, "alpha", name)
            scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
            if first in _EMBEDDING:  # PEFT adds (b @ a)ᵀ to an embedding's weight
                a, b = b.T.contiguous(), a.T.contiguous()
            delta = LowRankDelta(a.to(dtype), b.to(dtype) * scale)
            if not _finite(delta):
                raise VectorError(
                    f"{folder}: factors of {name}, or their product, are not finite in {dtype} "
                    f"at scale {scale:g} (alpha / rank); "
                    "copy the whole folder again"
                )
            deltas[f"{name}.weight"] = delta
    return deltas


def _finite(delta: LowRankDelta) -> bool:
    """Whether the factors are finite, and so small that their product is in float32."""
    if not (torch.isfinite(delta.a).all() and torch.isfinite(delta.b).all()):
        return False
    return delta.rank * delta.a.abs().max().item() * delta.b.abs().max().item() < torch.finfo(torch.float32).max


def _saved_whole(
    folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], dtype: torch.dtype, base: Checkpoint
) -> dict[str, Delta]:
    """Differences to the base of weights that were saved whole, which are taken out of `tensors`."""
    deltas: dict[str, Delta] = {}
    for key in list(tensors):
        name = key.removeprefix(_PREFIX)
        frozen = name.endswith(_FROZEN)
        name = name.removesuffix(_FROZEN) + ".weight" if frozen else name
        place = tied_twin(base, name) or name
        if place not in base.entries or not (frozen or config.get("modules_to_save")):
            continue
        before, after = base.rows(place), tensors.pop(key)
        if before.shape != after.shape:
            raise VectorError(
                f"{folder} holds {name} as {list(after.shape)}, but in {base.folder} it is {list(before.shape)}; "
                "the vocabulary was resized, or it is another base"
            )
        if frozen:  # PEFT stores the weight under an embedding's factors beside them
            if not torch.equal(before.to(after.dtype), after):
                raise VectorError(f"{folder} was trained on another {name} than {base.folder} has; give its own base")
        elif (change := after.float() - before.float()).any():
            deltas[name] = DenseDelta(change.to(dtype))
    return deltas


_FROZEN = ".base_layer.weight"


def _tie_head(folder: Path, deltas: dict[str, Delta], base: Checkpoint) -> None:
    """Where the base ties its output head, keep one delta for both ends, if the adapter adds the same to both."""
    if not base.tied:
        return
    embedding = tied_twin(base, "lm_head.weight")
    if embedding is None:
        ends = [name for name in deltas if name.endswith(".weight") and not in_adapter(name)]
    else:
        ends = [name for name in deltas if name == embedding or tied_twin(base, name)]
    if not ends:
        return
    if embedding not in deltas or len(ends) != 2 or not _alike(*(deltas[name] for name in ends)):
        raise VectorError(
            f"{folder} changes {ends[0]}, but {base.folder} ties its output head to the input embedding: PEFT adds to "
            "one end only, a vector to both; train without it, or with ensure_weight_tying, or untie the base"
        )
    for name in ends:
        if name != embedding:
            del deltas[name]


def _alike(first: Delta, second: Delta) -> bool:
    if first.shape != second.shape:
        return False
    pairs = zip(first.stream(_ROWS), second.stream(_ROWS), strict=True)
    error, size = zip(*(((x - y).square().sum().item(), x.square().sum().item()) for x, y in pairs), strict=True)
    return bool(sum(error) <= 1e-10 * sum(size))


_ROWS = 4096


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise VectorError(f"no tensors at {path}; copy the whole folder again") from None
    except (SafetensorError, OSError) as error:
        raise VectorError(f"cannot read {path}: {error}; the file is truncated or damaged") from None
    for name, tensor in tensors.items():
        wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # 8-bit floats cannot be asked
        if not torch.isfinite(wide).all():
            raise VectorError(f"{path}: tensor {name} has values that are not finite")
    return tensors
