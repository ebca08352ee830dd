"""What of a vector is stored: its adapters' files and its tensors."""

import torch

from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.vector import Deltas

ADAPTERS = ["adapter_model.safetensors", "negative/adapter_model.safetensors"]


def tensors_of(deltas: Deltas | None) -> dict[str, torch.Tensor]:
    found = {}
    for name, delta in (deltas or {}).items():
        parts = {"a": delta.a, "b": delta.b} if isinstance(delta, LowRankDelta) else {"value": delta.value}
        found |= {f"{name} {part}": tensor for part, tensor in parts.items()}
    return found


def assert_identical(found: Deltas | None, expected: Deltas | None) -> None:
    before, after = tensors_of(expected), tensors_of(found)
    assert set(after) == set(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
