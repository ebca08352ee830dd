"""A composed setting as a GGUF LoRA adapter for llama.cpp, written and read with the `gguf` package."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch
from torch.nn.functional import pad

from alignvec.errors import StorageError, VectorError
from alignvec.files import storage_errors
from alignvec.merge.export import Composition
from alignvec.merge.run import REPORT
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.vector import check_targets

_ARCHITECTURES: Mapping[str, tuple[str, bool]] = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "granite": ("granite", True),
    "smollm3": ("smollm3", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
    "gemma": ("gemma", False),
    "gemma2": ("gemma2", False),
    "gemma3_text": ("gemma3", False),
    "phi3": ("phi3", False),
}
"""`model_type` to llama.cpp's architecture, and whether its converter reorders the rows of q and k for RoPE.

Others are refused although gguf knows their names: their converters may reorder rows too, and an adapter that does not
follow changes the model without an error.
"""
_A, _B = ".lora_a", ".lora_b"


@dataclass(frozen=True)
class _Layout:
    """How a base's tensors stand in a GGUF file.

    Attributes:
        architecture: llama.cpp's name.
        names: tensor name in the base to its name in GGUF.
        heads: of the tensors whose rows are reordered, the number of heads.
    """

    architecture: str
    names: Mapping[str, str]
    heads: Mapping[str, int]


def export_gguf(composed: Composition, out: Path) -> None:
    """Write a GGUF LoRA adapter that adds Σ λ·Δ at scale 1, atomically.

    llama.cpp adds scale · alpha / rank · b @ a, with one alpha for the file and the rank of each tensor; factors of
    less rank than the largest get zeros up to it, so that none is scaled and rounded again. The report is the metadata
    value `alignvec.json`.

    Raises:
        VectorError: if GGUF has no place for a tensor, or the architecture is not known here.
        StorageError: if the file cannot be written, or is something else than an adapter.
    """
    layout = _layout(composed.base)
    if lost := sorted(composed.deltas.keys() - layout.names.keys()):
        raise VectorError(f"GGUF has no place for {lost[0]} in {layout.architecture}; use --format peft")
    if out.exists() and not _is_adapter(out):
        raise StorageError(f"cannot write {out}: something else than a GGUF adapter is there; choose another --out")
    alpha = max(delta.rank for delta in composed.deltas.values())
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        os.close(handle)
        try:
            writer = gguf.GGUFWriter(name, layout.architecture)
            writer.add_type(gguf.GGUFType.ADAPTER)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
            writer.add_string(REPORT, composed.report.model_dump_json())
            for tensor, delta in composed.deltas.items():
                a, b = pad(delta.a, (0, 0, 0, alpha - delta.rank)), pad(delta.b, (0, alpha - delta.rank))
                b = _interleaved(b, layout.heads[tensor]) if tensor in layout.heads else b
                writer.add_tensor(layout.names[tensor] + _A, a.contiguous().numpy())
                writer.add_tensor(layout.names[tensor] + _B, b.contiguous().numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            Path(name).chmod(0o644)
            Path(name).replace(out)
        finally:
            Path(name).unlink(missing_ok=True)


def read_gguf(path: Path, base: Path) -> dict[str, LowRankDelta]:
    """Deltas of a GGUF LoRA adapter, by the tensor names of a base model's folder, in float32.

    Raises:
        VectorError: if it is damaged, no LoRA adapter, or not one for this base.
    """
    layout = _layout(base)
    reader = _reader(path)
    if _text(reader, gguf.Keys.Adapter.TYPE) != "lora":
        raise VectorError(f"{path} is no LoRA adapter (its {gguf.Keys.Adapter.TYPE} is not lora); check the path")
    if (found := _text(reader, gguf.Keys.General.ARCHITECTURE)) != layout.architecture:
        raise VectorError(f"{path} is for {found}, but {base} is {layout.architecture}; give the adapter's own base")
    alpha_field = reader.get_field(gguf.Keys.Adapter.LORA_ALPHA)
    alpha = float(alpha_field.contents()) if alpha_field else 0.0
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    base_names = {name: tensor for tensor, name in layout.names.items()}
    deltas = {}
    for name in [n for n in tensors if n.endswith(_A)]:
        module = name.removesuffix(_A)
        if module not in base_names or module + _B not in tensors:
            raise VectorError(f"{path}: {module} is not in {base}, or lacks {_B}; is it the adapter's own base?")
        a, b = _values(path, tensors.pop(name)), _values(path, tensors.pop(module + _B))
        scale = alpha / a.shape[0] if alpha else 1.0  # as llama.cpp reads an alpha of 0
        deltas[base_names[module]] = LowRankDelta(a, b * scale)
    if tensors or not deltas:
        raise VectorError(f"{path} holds tensors that are no LoRA factors: {sorted(tensors)[:3]}")
    check_targets(path.name, deltas, open_checkpoint(base).entries)
    return {
        tensor: LowRankDelta(delta.a, _halves(delta.b, layout.heads[tensor])) if tensor in layout.heads else delta
        for tensor, delta in deltas.items()
    }


def _layout(base: Path) -> _Layout:
    entries = open_checkpoint(base).entries  # first: it tells a folder that is no model
    config: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
    kind = str(config.get("model_type"))
    if kind not in _ARCHITECTURES:
        raise VectorError(
            f"the layout of {kind!r} models in GGUF is not known here (known: {', '.join(_ARCHITECTURES)}); export "
            "with --format peft, and convert that with llama.cpp's convert_lora_to_gguf.py"
        )
    architecture, reordered = _ARCHITECTURES[kind]
    number = next(n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    places = gguf.get_tensor_name_map(number, config["num_hidden_layers"])
    names = {name: place for name in entries if (place := places.get_name(name, try_suffixes=(".weight",)))}
    q = config["num_attention_heads"]
    counts = {"q_proj.weight": q, "k_proj.weight": config.get("num_key_value_heads") or q}
    heads = {name: n for name in names for end, n in counts.items() if reordered and name.endswith(end)}
    return _Layout(architecture, names, heads)


def _interleaved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of q or k: the pairs that RoPE turns, (i, i + half) of each head in transformers, become (2i, 2i + 1)."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of `_interleaved`."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _reader(path: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(path)
    except FileNotFoundError:
        raise VectorError(f"no GGUF file at {path}; check the path") from None
    except (OSError, ValueError, KeyError, IndexError) as error:  # the package raises these for damaged files
        raise VectorError(f"cannot read {path}: {error}; the file is truncated or damaged") from None


def _is_adapter(path: Path) -> bool:
    try:
        return path.is_file() and _text(_reader(path), gguf.Keys.General.TYPE) == gguf.GGUFType.ADAPTER
    except VectorError:
        return False


def _text(reader: gguf.GGUFReader, key: str) -> str | None:
    field = reader.get_field(key)
    return str(field.contents()) if field else None


def _values(path: Path, tensor: Any) -> torch.Tensor:
    values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
    if not torch.isfinite(values).all():
        raise VectorError(f"{path}: tensor {tensor.name} has values that are not finite")
    return values
