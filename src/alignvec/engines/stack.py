"""Every part of some vectors as one adapter: an engine that knows one adapter can then have a gate inside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file

from alignvec.errors import KnobError
from alignvec.files import atomic_folder
from alignvec.merge.export import adapter_factors
from alignvec.vectors.adapter import ADAPTER, ADAPTER_CONFIG, adapter_tensors, peft_config
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.vector import AlignmentVector, Part


class Slot(BaseModel):
    """The columns of a stacked adapter's rank that one part of a vector has, the same in every layer.

    Attributes:
        vector: its name.
        sign: see `Part`.
        start: first column.
        stop: the column after the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vector: str
    sign: int
    start: int
    stop: int


def stack_parts(vectors: Sequence[AlignmentVector]) -> tuple[dict[str, LowRankDelta], list[Slot]]:
    """All parts side by side, by tensor name, and where each of them stands.

    A part of less rank in some layer, or none, has zeros there, so that one gate fits all layers: Σ λ·Δ is
    b @ (gate ∘ a) with the gate that `gate_row` gives.

    Raises:
        KnobError: if two vectors have one name, or there is none.
        VectorError: if a delta is not the low-rank factors of a linear layer.
    """
    if not vectors:
        raise KnobError("no vectors to serve; name some with --vectors")
    if len({vector.name for vector in vectors}) < len(vectors):
        raise KnobError("two vectors have the same name; rename one in its card.json, or load one at a time")
    parts = [(part, adapter_factors(part.vector, part.deltas)) for vector in vectors for part in vector.parts]
    slots: list[Slot] = []
    for part, deltas in parts:
        start = slots[-1].stop if slots else 0
        rank = max((delta.rank for delta in deltas.values()), default=0)
        slots.append(Slot(vector=part.vector, sign=part.sign, start=start, stop=start + rank))
    shapes = {name: delta.shape for _, deltas in parts for name, delta in deltas.items()}
    stacked = {}
    for name, (out, width) in shapes.items():
        a, b = torch.zeros(slots[-1].stop, width), torch.zeros(out, slots[-1].stop)
        for (_, deltas), slot in zip(parts, slots, strict=True):
            if name in deltas:
                own = deltas[name]
                a[slot.start : slot.start + own.rank] = own.a
                b[:, slot.start : slot.start + own.rank] = own.b
        stacked[name] = LowRankDelta(a, b)
    return stacked, slots


def gate_row(slots: Sequence[Slot], knobs: Mapping[str, float]) -> list[float]:
    """The gate of one setting, [rank of the stacked adapter].

    Raises:
        KnobError: if a knob names no vector of the stack.
    """
    if unknown := knobs.keys() - {slot.vector for slot in slots}:
        have = ", ".join(dict.fromkeys(slot.vector for slot in slots))
        raise KnobError(f"no vector named {min(unknown)!r} is loaded (have: {have}); use one of them")
    row: list[float] = []
    for slot in slots:
        gate = Part(slot.vector, {}, slot.sign).gate(knobs.get(slot.vector, 0.0))
        row += [gate] * (slot.stop - slot.start)
    return row


def write_adapter(deltas: Mapping[str, LowRankDelta], base: str, folder: Path) -> None:
    """Write factors as a PEFT adapter whose scale is 1, atomically; an engine's own workers do too.

    Raises:
        StorageError: if it cannot be written.
    """
    with atomic_folder(folder, everyone=True) as staging:
        tensors = {name: tensor.contiguous() for name, tensor in adapter_tensors(deltas).items()}
        save_file(tensors, staging / ADAPTER, metadata={"format": "pt"})
        config = json.dumps(peft_config(deltas, base), indent=1)
        (staging / ADAPTER_CONFIG).write_text(config + "\n", encoding="utf-8")
