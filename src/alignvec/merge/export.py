"""A setting as one low-rank sum, and the PEFT adapter that holds it, for engines that know adapters but no knobs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file

from alignvec.errors import KnobError, StorageError, VectorError
from alignvec.files import atomic_folder
from alignvec.merge.run import REPORT
from alignvec.models import resolve
from alignvec.provenance import Provenance, provenance
from alignvec.vectors.adapter import ADAPTER, ADAPTER_CONFIG, adapter_tensors, in_adapter, peft_config
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.delta import Delta, LowRankDelta, add, refactored
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.vector import AlignmentVector, Deltas, check_targets


class ExportReport(BaseModel):
    """What an exported adapter is made of; stored with it.

    Attributes:
        base: name of the base model.
        base_fingerprint: its fingerprint.
        knobs: vector name to λ, as asked for.
        vectors: of each vector that is turned, the sha256 of its files.
        tensors: how many tensors it changes.
        ranks: rank to the number of tensors that have it.
        dtype: of the stored factors.
        relative_error: ‖stored − Σ λ·Δ‖ / ‖Σ λ·Δ‖ over all tensors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    base: str
    base_fingerprint: str
    knobs: dict[str, float]
    vectors: dict[str, dict[str, str]]
    tensors: int
    ranks: dict[int, int]
    dtype: str
    relative_error: float
    provenance: Provenance


@dataclass(frozen=True)
class Composition:
    """Σ λ·Δ of one setting, as it is written.

    Attributes:
        deltas: by tensor name, in the dtype they are stored in.
        base: folder of the base model.
        report: what it is made of.
    """

    deltas: Mapping[str, LowRankDelta]
    base: Path
    report: ExportReport


def compose(vectors: Sequence[AlignmentVector], knobs: Mapping[str, float]) -> dict[str, LowRankDelta]:
    """Σ λ·Δ by tensor name (of a hinged vector |λ| times the side of λ's sign): λ folded into b, factors concatenated.

    Raises:
        KnobError: if a knob names no vector, λ is not finite, or every λ is 0.
        VectorError: if a delta is not the low-rank factors of a linear layer, or shapes differ.
    """
    named = {vector.name: vector for vector in vectors}
    found: dict[str, list[Delta]] = {}
    for name, coefficient in knobs.items():
        if name not in named or not math.isfinite(coefficient):
            raise KnobError(f"knob {name}={coefficient} must be the name of a loaded vector and a finite number")
        for part in named[name].parts:
            if gate := part.gate(coefficient):
                for tensor, factors in adapter_factors(name, part.deltas).items():
                    found.setdefault(tensor, []).append(LowRankDelta(factors.a.float(), factors.b.float() * gate))
    if not found:
        raise KnobError("every knob is at 0, which is the base itself: nothing to export; turn one, as in medical=0.5")
    return adapter_factors("the sum", {tensor: reduce(add, deltas) for tensor, deltas in found.items()})


def composition(
    vectors: Sequence[AlignmentVector],
    knobs: Mapping[str, float],
    base: str,
    *,
    rank: int | None = None,
    dtype: torch.dtype = torch.float32,
    allow_other_base: bool = False,
) -> Composition:
    """Σ λ·Δ of one setting, checked against the base, whose weights are not read, and rounded to what is stored.

    Args:
        vectors: at least those that the knobs name.
        knobs: vector name to λ.
        base: base model: `demo`, a folder or a hub id.
        rank: keep at most this many singular values of each tensor's sum.
        dtype: of the stored factors.
        allow_other_base: skip the fingerprint check, to move a vector to another fine-tuning stage on purpose.

    Raises:
        ModelError: if the base cannot be found.
        KnobError: see `compose`.
        VectorError: see `compose`; also if a vector does not belong to the base, or the sum overflows `dtype`.
    """
    exact = compose(vectors, knobs)
    folder = resolve(base)
    found, entries = fingerprint(folder), open_checkpoint(folder).entries
    turned = [vector for vector in vectors if knobs.get(vector.name)]
    for vector in turned:
        if not allow_other_base:
            vector.require_base(found)
        for part in vector.parts:
            check_targets(vector.name, part.deltas, entries)
    deltas = {name: _stored(name, delta, rank, dtype) for name, delta in exact.items()}
    ranks = [delta.rank for delta in deltas.values()]
    report = ExportReport(
        base=base,
        base_fingerprint=found,
        knobs=dict(knobs),
        vectors={vector.name: dict(vector.card.files) for vector in turned},
        tensors=len(ranks),
        ranks={rank: ranks.count(rank) for rank in sorted(set(ranks))},
        dtype=str(dtype).removeprefix("torch."),
        relative_error=_relative_error(exact, deltas),
        provenance=provenance(),
    )
    return Composition(deltas, folder, report)


def export_peft(composed: Composition, out: Path) -> None:
    """Write a PEFT adapter folder whose scale is 1, with the report as `alignvec.json`, atomically.

    Raises:
        StorageError: if the folder cannot be written, or holds something else than an earlier export.
    """
    ours = (out / REPORT).is_file() and (out / ADAPTER_CONFIG).is_file()
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not ours):
        raise StorageError(
            f"cannot write {out}: something else than an exported adapter is there; choose another --out"
        )
    tensors = {name: tensor.contiguous() for name, tensor in adapter_tensors(composed.deltas).items()}
    config = peft_config(composed.deltas, composed.report.base)
    with atomic_folder(out) as staging:
        save_file(tensors, staging / ADAPTER, metadata={"format": "pt"})
        (staging / ADAPTER).chmod(0o644)  # the library leaves it readable by its owner alone
        (staging / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        (staging / REPORT).write_text(composed.report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def adapter_factors(vector: str, deltas: Deltas) -> dict[str, LowRankDelta]:
    """The deltas, if an adapter can hold them all.

    Raises:
        VectorError: if one is not the low-rank factors of a linear layer, naming `vector` and it.
    """
    for tensor, delta in deltas.items():  # first, since compressing the others would not help these
        if not isinstance(delta, LowRankDelta) and (len(delta.shape) != 2 or min(delta.shape) < 2):
            raise VectorError(
                f"vector {vector!r} changes {tensor}, whose shape {list(delta.shape)} has no low-rank factors, so no "
                "adapter holds it; write a whole model instead, with alignvec merge"
            )
        if not in_adapter(tensor):
            raise VectorError(
                f"vector {vector!r} changes the embedding {tensor}, which engines take from an adapter for one end of "
                "a tied embedding only; write a whole model instead, with alignvec merge"
            )
    found = {}
    for tensor, delta in deltas.items():
        if not isinstance(delta, LowRankDelta):
            raise VectorError(
                f"vector {vector!r} changes {tensor} by more than low-rank factors, which no adapter holds; compress "
                "the original first: alignvec compress FOLDER --form rank=16 --out NEW"
            )
        found[tensor] = delta
    return found


def _stored(name: str, delta: LowRankDelta, rank: int | None, dtype: torch.dtype) -> LowRankDelta:
    if rank is not None and delta.rank > rank:
        delta = refactored(delta, rank=rank)
    if dtype != torch.float32:
        delta = LowRankDelta(delta.a.to(dtype), delta.b.to(dtype))
    if not (torch.isfinite(delta.a).all() and torch.isfinite(delta.b).all()):
        raise VectorError(f"the sum for {name} is not finite in {dtype}; use smaller knobs, or --dtype float32")
    return delta


def _relative_error(exact: Mapping[str, LowRankDelta], stored: Mapping[str, LowRankDelta]) -> float:
    size = error = 0.0
    for name, delta in exact.items():
        other = stored[name]
        size += _squared_norm(delta.a, delta.b)
        if other is not delta:
            error += _squared_norm(torch.cat([delta.a, other.a.float()]), torch.cat([delta.b, -other.b.float()], dim=1))
    return (error / size) ** 0.5 if size else 0.0


def _squared_norm(a: torch.Tensor, b: torch.Tensor) -> float:
    """‖b @ a‖² in float64 through the factors' triangles; small differences do not cancel as in their Gram matrices."""
    left, right = torch.linalg.qr(b.double()).R, torch.linalg.qr(a.double().T).R
    return float((left @ right.T).square().sum())
