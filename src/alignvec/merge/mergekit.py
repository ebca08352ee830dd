"""A mergekit configuration turned into a merge recipe; what does not come out the same is a note or an error."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignvec.merge.mergekit_file import DEFAULTS, Input, MergekitFile, read_mergekit
from alignvec.merge.recipe import make_merge_recipe

_METHODS = {"task_arithmetic": "sum", "ties": "ties", "dare_ties": "dare-ties", "dare_linear": "dare", "linear": "sum"}
_NOTHING = 1e-8
"""Weights that add up to less are not divided by, here and in mergekit."""


def convert(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Values of a merge recipe for a mergekit configuration, and notes on what the recipe does otherwise.

    A model folder that exists from where you are becomes an absolute path, since a recipe's own are relative to it.

    Raises:
        ConfigError: if it is no mergekit configuration, or has something that a merge recipe cannot say.
    """
    file, notes = read_mergekit(path)
    if file.method == "linear":
        file = _as_deltas(file, notes)
    elif file.rescale != DEFAULTS[file.method]["rescale"]:
        file = _rescaled(file, notes)
    if file.normalize:
        file = _normalized(file, notes)
    _note_arithmetic(file, notes)
    values: dict[str, Any] = {"base": file.base, "method": _METHODS[file.method]}
    if file.normalize:
        values["normalize"] = True
    if file.scale != 1:
        values["scale"] = file.scale
    if file.dtype:
        values["dtype"] = file.dtype
    values["knobs"] = _knobs(file.inputs, notes)
    make_merge_recipe(str(path), values)
    return values, notes


def _as_deltas(file: MergekitFile, notes: list[str]) -> MergekitFile:
    """Σ w·θ / Σ w as θ_base + Σ (w / Σ w)·Δ."""
    constant = [i.weight for i in file.inputs if isinstance(i.weight, float)]
    total = sum(constant)
    if len(constant) < len(file.inputs):
        file.fail("models", "weights of linear that change with depth have no counterpart; use task_arithmetic")
    if abs(total) < _NOTHING or (not file.normalize and abs(total - 1) > 1e-6):
        file.fail("models", f"the weights of linear add up to {total:g}, so the base would be scaled; make it 1")
    base = file.base or file.inputs[0].model
    if base not in [i.model for i in file.inputs]:
        file.fail("base_model", f"linear needs a weight for {base}; add it to models")
    inputs = [replace(i, weight=w / total) for i, w in zip(file.inputs, constant, strict=True) if i.model != base]
    notes.append(f"linear: written as deltas to {base}; a coefficient is the model's share of all weights")
    return replace(file, base=base, inputs=inputs, normalize=False)


def _rescaled(file: MergekitFile, notes: list[str]) -> MergekitFile:
    if all(i.density >= 1 for i in file.inputs):
        return file
    if file.rescale or file.normalize:
        file.fail("parameters.rescale", f"{file.rescale} has no counterpart here; leave it out")
    notes.append("parameters.rescale: false is written as coefficients times density, which undoes the rescaling")
    return replace(file, inputs=[replace(i, weight=_times(i.weight, i.density)) for i in file.inputs])


def _normalized(file: MergekitFile, notes: list[str]) -> MergekitFile:
    values = [w for i in file.inputs for w in (i.weight if isinstance(i.weight, list) else [i.weight])]
    if all(w >= 0 for w in values):
        return file
    if file.method in ("ties", "dare_ties"):
        notes.append(
            "parameters.normalize: divides by the sum of |weight| of what agrees, mergekit by the signed sum; "
            "the results differ where a negative weight agrees"
        )
        return file
    total = sum(values)
    if total > 0 or any(isinstance(i.weight, list) for i in file.inputs):
        return file  # the merge itself refuses a sum that is not above 0 at some depth
    notes.append(f"parameters.normalize: written into scale, since the weights add up to {total:g}")
    return replace(file, normalize=False, scale=file.scale / total if abs(total) >= _NOTHING else file.scale)


def _note_arithmetic(file: MergekitFile, notes: list[str]) -> None:
    if file.method.startswith("dare") and any(i.density < 1 for i in file.inputs):
        notes.append(
            f"{file.method}: values are dropped at random, so others than in mergekit; what is left is divided by the "
            "density, where mergekit keeps each delta's sum of magnitudes as it was"
        )
    if file.dtype is None:
        notes.append("dtype: none given; each tensor keeps the base's, in mergekit one that fits all models")
    if file.computed not in (None, "float32"):
        notes.append(
            f"dtype: sums are made in float32 and rounded once; mergekit makes them in {file.computed}, so the results "
            "differ by its rounding"
        )


def _knobs(inputs: Sequence[Input], notes: list[str]) -> dict[str, Any]:
    knobs: dict[str, Any] = {}
    for entry in inputs:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(entry.model).name).lstrip("_.-") or "model"
        names = [stem, *(f"{stem}-{i}" for i in range(2, len(inputs) + 1))]
        name = next(n for n in names if n not in knobs)
        knobs[name] = {"model": entry.model}
        if isinstance(entry.weight, list):
            knobs[name]["layers"] = entry.weight
            if entry.weight[0] != entry.weight[-1]:
                notes.append(
                    f"knob {name}: the final norm, and an output head of its own, take the schedule's last value "
                    f"({entry.weight[-1]:g}), in mergekit its first ({entry.weight[0]:g})"
                )
        else:
            knobs[name]["coefficient"] = entry.weight
        if entry.density < 1:
            knobs[name]["density"] = entry.density
    return knobs


def _times(weight: float | list[float], factor: float) -> float | list[float]:
    return [w * factor for w in weight] if isinstance(weight, list) else weight * factor
