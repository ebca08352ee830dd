"""Bases and vectors whose merges float64 can predict bit for bit: all values lie on coarse grids of powers of two."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from alignvec.merge.recipe import MergeRecipe
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.packed import SignDelta, to_sparse
from alignvec.vectors.store import save_vector
from alignvec.vectors.vector import AlignmentVector

Tensors = dict[str, torch.Tensor]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
UP, NORM, EMBEDDING = "model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"
ODD: dict[str, tuple[int, ...]] = {
    "extra.cube": (5, 3, 7),
    "extra.row": (1, 40),
    "extra.column": (77, 1),
    "extra.scalar": (),
    "extra.empty": (0, 4),
}
"""Shapes that a Llama does not have."""


def grid(*shape: int, seed: int, unit: float = 2.0**-12, steps: int = 200) -> torch.Tensor:
    """Random multiples of `unit`, at most `steps` of them, float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-steps, steps + 1, shape, generator=generator).float() * unit


def forms(*shape: int, seed: int) -> dict[str, tuple[Delta, torch.Tensor]]:
    """Each form of a delta that shape allows, and its ΔW in float64, not made by the form's own code."""
    dense = grid(*shape, seed=seed)
    found: dict[str, tuple[Delta, torch.Tensor]] = {"dense": (DenseDelta(dense), dense.double())}
    if len(shape) == 2:
        a, b = grid(3, shape[1], seed=seed, unit=2.0**-4, steps=8), grid(shape[0], 3, seed=seed, unit=2.0**-8, steps=16)
        found["low-rank"] = (LowRankDelta(a, b), b.double() @ a.double())
    if shape:
        thin = dense * (grid(*shape, seed=seed + 1, unit=1, steps=3) == 1)
        found["sparse"] = (to_sparse(thin, thin != 0), thin.double())
        positive = (dense >= 0).numpy().reshape(shape[0], -1)
        bits = torch.from_numpy(np.packbits(positive, axis=1, bitorder="little"))
        signs = torch.from_numpy(np.where(positive, 1.0, -1.0)).view(shape) * 2.0**-9
        found["sign"] = (SignDelta(bits, torch.tensor(2.0**-9), shape), signs)
    return found


def write_base(
    source: Path,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    extra: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """A copy of a model folder whose weights lie on a grid, with more tensors if wanted, in one file or several."""
    shutil.copytree(source, folder)
    tensors = {
        name: grid(*tensor.shape, seed=number, unit=2.0**-8, steps=128).to(dtype)
        for number, (name, tensor) in enumerate(load_file(folder / WEIGHTS).items())
    } | dict(extra or {})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": str(dtype).removeprefix("torch.")}))
    if shards == 1:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "note": "kept"})
        return folder
    (folder / WEIGHTS).unlink()
    names, weight_map = list(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in names[number::shards]}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names[number::shards], file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1, "mine": 2}, "weight_map": weight_map}))
    return folder


def odd_tensors(dtype: torch.dtype = torch.float32) -> Tensors:
    """Tensors of the shapes in `ODD`, and one of integers."""
    odd = {name: grid(*shape, seed=50 + i, unit=2.0**-8).to(dtype) for i, (name, shape) in enumerate(ODD.items())}
    return {**odd, "extra.ids": torch.arange(12).view(3, 4)}


def write_model(folder: Path, tensors: Mapping[str, torch.Tensor], *, like: Path, tied: bool = True) -> Path:
    """A model folder with these tensors, and the config of `like`."""
    folder.mkdir()
    config = json.loads((like / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def tensors_of(folder: Path) -> Tensors:
    """All tensors of a model folder, by the library's own reader."""
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def save_two(base: Path, folder: Path) -> Path:
    """Save `medical` (low-rank and dense) and `legal` (dense) below `folder`, and return it."""
    low = LowRankDelta(grid(2, 32, seed=1, unit=2.0**-4, steps=8), grid(64, 2, seed=2, unit=2.0**-8, steps=16))
    save(base, folder / "medical", {UP: low, NORM: DenseDelta(grid(32, seed=3))})
    save(base, folder / "legal", {UP: DenseDelta(grid(64, 32, seed=4))})
    return folder


def save(
    base: Path, folder: Path, positive: Mapping[str, Delta], negative: Mapping[str, Delta] | None = None
) -> AlignmentVector:
    """Save a vector named after its folder; returns it as it was in memory."""
    reference = BaseReference(name=str(base), fingerprint=fingerprint(base), template="none")
    form = "single" if negative is None else "hinged"
    card = Card(name=folder.name, form=form, method="one-sided", base=reference, settings={"expert": 0.5})
    vector = AlignmentVector(card, positive, negative)
    save_vector(vector, folder)
    return vector


def recipe(base: Path, knobs: Mapping[str, object], **values: object) -> MergeRecipe:
    """A merge recipe."""
    return MergeRecipe.model_validate({"base": str(base), "knobs": dict(knobs), **values})


def assert_same_bytes(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Same dtype, shape and bits."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert torch.equal(found.reshape(-1).view(torch.uint8), expected.contiguous().reshape(-1).view(torch.uint8))
