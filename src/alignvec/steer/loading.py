"""From what a user names (a base, folders of vectors) to a model with knobs; imports nothing heavy before a call."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.shipped import ROOT

if TYPE_CHECKING:
    from alignvec.steer.model import KnobbedModel
    from alignvec.steer.scale import Scale

VECTORS = ROOT / "vectors"
"""Folder of the vectors that come with the project."""


def load_knobbed(
    model: str,
    vectors: Sequence[Path] | None,
    *,
    dtype: str = "float32",
    device: str | None = None,
    allow_other_base: bool = False,
) -> "KnobbedModel":
    """Load a base model and vectors; cards and tensors are checked before the model is loaded."""
    from alignvec import models
    from alignvec.steer.model import KnobbedModel
    from alignvec.vectors.store import load_vector

    loaded = [load_vector(place) for place in vector_places(vectors).values()]
    return KnobbedModel(models.load(model, dtype=dtype, device=device), loaded, allow_other_base=allow_other_base)


def named_scales(vectors: Sequence[Path] | None) -> "dict[str, Scale]":
    """What every knob's positions mean, read from the cards alone: knobs are checked before anything loads."""
    from alignvec.steer.scale import scale_of
    from alignvec.vectors.store import load_card

    return {name: scale_of(load_card(place)) for name, place in vector_places(vectors).items()}


def vector_places(vectors: Sequence[Path] | None) -> dict[str, Path]:
    """Names and folders of the vectors that were asked for, or of the shipped ones."""
    from alignvec.errors import VectorError
    from alignvec.vectors.store import find_vectors

    places: dict[str, Path] = {}
    for folder in vectors or [VECTORS]:
        found = find_vectors(folder)
        if not found:
            raise VectorError(f"no vectors in {folder} (neither it nor a subfolder has a card.json); check --vectors")
        if both := sorted(places.keys() & found.keys()):
            raise VectorError(f"two vectors are named {both[0]!r}; load one of them, or rename one in its card.json")
        places |= found
    return places
