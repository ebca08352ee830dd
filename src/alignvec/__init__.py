"""Alignment as a knob: alignment vectors for language models, added at inference with any coefficient."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alignvec.steer.loaded_model import LoadedModel

__version__ = "0.1.0"


def load(
    model: str | Path = "demo",
    vectors: str | Path | Sequence[str | Path] | None = None,
    *,
    router: str | Path | None = None,
    dtype: str = "float32",
    device: str | None = None,
    allow_other_base: bool = False,
) -> "LoadedModel":
    """Load a base model with vectors: `alignvec.load("demo").generate("I cannot sleep.", "medical=expert")`.

    Args:
        model: `demo`, a folder, or a hub id.
        vectors: a vector, a folder of vectors, or several of these; `[]`: none; default: the shipped ones,
            which fit `demo`.
        router: folder of a router; each knob then acts as far as a question is its domain's business.
        dtype: `float32`, `bfloat16` or `float16`.
        device: a torch device; default CUDA where there is one, else the CPU.
        allow_other_base: apply vectors to a base that they were not made for.

    Raises:
        ModelError: if the model cannot be found or loaded.
        VectorError: if a vector or the router is missing or damaged, or belongs to another base.
    """
    from alignvec.steer.loaded_model import load_model

    return load_model(model, vectors, router=router, dtype=dtype, device=device, allow_other_base=allow_other_base)
