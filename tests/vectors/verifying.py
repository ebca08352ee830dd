"""A vector with every form of delta, and what its checks find."""

from dataclasses import replace
from pathlib import Path

import torch

from alignvec.vectors.delta import Delta, DenseDelta
from alignvec.vectors.extract import base_reference
from alignvec.vectors.packed import to_signs, to_sparse
from alignvec.vectors.store import save_vector
from alignvec.vectors.verify import verify
from tests.conftest import MakeVector

LOW, NEGATIVE, DENSE = "adapter_model.safetensors", "negative/adapter_model.safetensors", "deltas.safetensors"
CONTENT = ["card", "files", "other files", "tensor hashes", "finite values", "factors", "adapter settings"]


def save_all_forms(make_vector: MakeVector, tiny_folder: Path, folder: Path) -> Path:
    """A hinged vector: low-rank on both sides, on the positive one also dense, sparse and signs."""
    vector = make_vector()
    generator = torch.Generator().manual_seed(3)
    value = torch.randn(64, 32, generator=generator)
    other: dict[str, Delta] = {
        "model.norm.weight": DenseDelta(torch.randn(32, generator=generator)),
        "model.layers.0.mlp.gate_proj.weight": to_sparse(value, value.abs() > 1.0),
        "model.layers.1.mlp.gate_proj.weight": to_signs(value),
    }
    card = vector.card.model_copy(update={"base": base_reference(str(tiny_folder))})
    save_vector(replace(vector, card=card, positive={**vector.positive, **other}), folder)
    return folder


def states(folder: Path, base: str | None = None) -> dict[str, str]:
    (report,) = verify(folder, base=base).vectors
    return {check.name: check.state for check in report.checks}


def failures(folder: Path, base: str | None = None) -> dict[str, str]:
    (report,) = verify(folder, base=base).vectors
    return {check.name: check.detail for check in report.checks if check.state == "failed"}


def details(folder: Path, base: str | None = None) -> dict[str, str]:
    (report,) = verify(folder, base=base).vectors
    return {check.name: check.detail for check in report.checks}
