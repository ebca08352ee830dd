"""Vectors on disk: a folder with `card.json` and tensors, low-rank ones laid out as a PEFT adapter."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from alignvec.errors import StorageError, VectorError
from alignvec.files import atomic_folder, write_text
from alignvec.vectors.card import Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.vector import AlignmentVector, Deltas

CARD, ADAPTER, ADAPTER_CONFIG, DENSE = (
    "card.json",
    "adapter_model.safetensors",
    "adapter_config.json",
    "deltas.safetensors",
)
NEGATIVE = "negative"
"""Subfolder of a hinged vector for the deltas of λ < 0; itself a PEFT adapter."""
_PREFIX = "base_model.model."


def save_vector(vector: AlignmentVector, folder: Path, *, dtype: torch.dtype | None = None) -> AlignmentVector:
    """Write a vector atomically, replacing what is at `folder`.

    Args:
        dtype: store the tensors in this dtype; default: as they are. The largest relative error that rounding makes
            in a tensor is recorded in the card as `storage_rounding`.

    Returns:
        The vector with the card as stored.

    Raises:
        StorageError: if the folder cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file()):
        raise StorageError(f"cannot write {folder}: something else than a vector is there; choose another --out")
    with atomic_folder(folder) as staging:
        written = {name: _write_side(deltas, staging / name, vector.card, dtype) for name, deltas in _sides(vector)}
        files = {str(p.relative_to(staging)): _sha256(p) for p in sorted(staging.rglob("*.safetensors"))}
        error = dict(vector.card.error)
        if dtype is not None:
            error["storage_rounding"] = max(written.values())
        card = vector.card.model_copy(update={"files": files, "error": error})
        (staging / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
    return AlignmentVector(card, vector.positive, vector.negative)


def load_card(folder: Path) -> Card:
    """Read the card of the vector in `folder`.

    Raises:
        VectorError: if there is none, or it is damaged or of another format.
    """
    path = folder / CARD
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VectorError(f"no vector at {folder} (it has no {CARD}); check the path") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise VectorError(f"{path}: {where}: {first['msg']}; the card is damaged or from another version") from None
    except (OSError, UnicodeDecodeError) as error:
        raise VectorError(f"cannot read {path}: {error}") from None


def save_card(folder: Path, card: Card) -> None:
    """Replace the card of the vector in `folder` atomically; the tensors stay."""
    write_text(folder / CARD, card.model_dump_json(indent=1) + "\n")


def load_vector(folder: Path, *, dtype: torch.dtype = torch.float32) -> AlignmentVector:
    """Read a vector, checking every file against the card.

    Raises:
        VectorError: if a file is missing, truncated, altered or holds values that are not finite.
    """
    card = load_card(folder)
    if not card.files:
        raise VectorError(f"{folder / CARD} lists no files, so the vector has no tensors; save it again")
    for name, expected in card.files.items():
        path = folder / name
        if not path.is_file():
            raise VectorError(f"vector {card.name!r} lacks {path}; copy the whole folder again")
        if _sha256(path) != expected:
            raise VectorError(f"{path} is damaged or was altered (its sha256 is not the card's); copy it again")
    positive = _read_side(folder, dtype)
    negative = _read_side(folder / NEGATIVE, dtype) if card.form == "hinged" else None
    return AlignmentVector(card, positive, negative)


def find_vectors(folder: Path) -> dict[str, Path]:
    """Names of the vectors in the subfolders of `folder` (or of `folder` itself, if it is one), with their paths.

    Raises:
        VectorError: if a card is damaged, or two vectors have one name.
    """
    places = [folder] if (folder / CARD).is_file() else sorted(p.parent for p in folder.glob(f"*/{CARD}"))
    found: dict[str, Path] = {}
    for place in places:
        name = load_card(place).name
        if name in found:
            raise VectorError(f"{found[name]} and {place} are both named {name!r}; load one, or rename one in its card")
        found[name] = place
    return found


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


def _sides(vector: AlignmentVector) -> list[tuple[str, Deltas]]:
    return [("", vector.positive)] + ([(NEGATIVE, vector.negative)] if vector.negative is not None else [])


def _write_side(deltas: Deltas, folder: Path, card: Card, dtype: torch.dtype | None) -> float:
    """Write one side's tensors; returns the largest relative rounding error of a tensor."""
    folder.mkdir(exist_ok=True)
    low = {name: d for name, d in deltas.items() if isinstance(d, LowRankDelta)}
    factors = {f"{_PREFIX}{n.removesuffix('.weight')}.lora_A.weight": d.a for n, d in low.items()}
    factors |= {f"{_PREFIX}{n.removesuffix('.weight')}.lora_B.weight": d.b for n, d in low.items()}
    dense = {name: d.value for name, d in deltas.items() if isinstance(d, DenseDelta)}
    worst = 0.0
    for tensors, file in ((factors, ADAPTER), (dense, DENSE)):
        if not tensors:
            continue
        stored = {n: t.detach().to("cpu", dtype or t.dtype).contiguous() for n, t in tensors.items()}
        for name, tensor in stored.items():
            exact = tensors[name].detach().to("cpu", torch.float32)
            if not torch.isfinite(tensor).all():
                raise VectorError(f"tensor {name} of vector {card.name!r} is not finite in {tensor.dtype}")
            norm = exact.norm().item()
            worst = max(worst, (tensor.float() - exact).norm().item() / norm if norm else 0.0)
        save_file(stored, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # the library leaves it readable by its owner alone
    if low:
        config = peft_config(low, card.base.name)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    return worst


def _read_side(folder: Path, dtype: torch.dtype) -> dict[str, Delta]:
    deltas: dict[str, Delta] = {}
    if (folder / ADAPTER).is_file():
        deltas |= read_adapter(folder, dtype)
    if (folder / DENSE).is_file():
        deltas |= {name: DenseDelta(value.to(dtype)) for name, value in _tensors(folder / DENSE).items()}
    if not deltas:
        raise VectorError(f"{folder} holds neither {ADAPTER} nor {DENSE}")
    return deltas


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


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
