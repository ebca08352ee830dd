"""Vectors from what training leaves behind: a LoRA adapter (exact), or two full checkpoints (θ_aligned − θ_base)."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from alignvec.errors import ModelError, VectorError
from alignvec.models import resolve
from alignvec.vectors.adapter import ADAPTER_CONFIG, read_adapter
from alignvec.vectors.card import NAME, BaseReference, Card
from alignvec.vectors.delta import Delta, DenseDelta
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector


def base_reference(name: str) -> BaseReference:
    """Name, fingerprint and template hash of a base model, without loading its weights.

    Raises:
        ModelError: if the model cannot be found or read.
    """
    from transformers import AutoTokenizer

    folder = resolve(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        cause = str(error).strip().split("\n")[0]
        raise ModelError(f"{folder} has no usable tokenizer: {cause}; copy the tokenizer's files there") from error
    return BaseReference(name=name, fingerprint=fingerprint(folder), template=template_hash(tokenizer))


def extract(base: str, aligned: str, *, name: str, **card: Any) -> AlignmentVector:
    """θ_aligned − θ_base as a single vector.

    Args:
        base: base model: `demo`, a folder or a hub id.
        aligned: folder of a PEFT LoRA adapter trained on the base, or a full model of the same architecture.
        name: the vector's (and knob's) name.
        card: further fields of the card.

    Raises:
        ModelError: if a model cannot be found.
        VectorError: if the two do not match tensor for tensor, or do not differ at all.
    """
    if not re.fullmatch(NAME, name):
        raise VectorError(f"a vector cannot be named {name!r}; use letters, digits, and . _ - after the first")
    reference = base_reference(base)
    adapter = Path(aligned).expanduser()
    if (adapter / ADAPTER_CONFIG).is_file():
        deltas: dict[str, Delta] = read_adapter(adapter)
        _require_targets(deltas, resolve(base), adapter)
    else:
        deltas = difference(resolve(base), resolve(aligned))
    fields: dict[str, Any] = {"method": "one-sided", **card}
    return AlignmentVector(Card(name=name, form="single", base=reference, **fields), deltas)


def difference(base: Path, aligned: Path) -> dict[str, Delta]:
    """Dense float32 differences of two checkpoint folders, tensor by tensor; equal tensors are left out.

    Raises:
        VectorError: if tensors are missing, extra or of another shape, not finite, or all equal.
    """
    deltas: dict[str, Delta] = {}
    with _tensors(base) as old, _tensors(aligned) as new:
        _require_same(base, aligned, old, new)
        for name in sorted(old):
            before, after = old[name].get_tensor(name), new[name].get_tensor(name)
            if before.dtype == after.dtype and torch.equal(before, after):
                continue
            delta = after.float() - before.float()
            if not torch.isfinite(delta).all():
                raise VectorError(f"tensor {name} of {aligned} has values that are not finite; the model is damaged")
            if delta.any():
                deltas[name] = DenseDelta(delta)
    if not deltas:
        raise VectorError(f"{aligned} has the same weights as {base}, so there is nothing to extract")
    return deltas


@contextmanager
def _tensors(folder: Path) -> Iterator[dict[str, Any]]:
    """Tensor name to the open file that holds it."""
    with ExitStack() as stack:
        try:
            files = [stack.enter_context(safe_open(p, "pt")) for p in sorted(folder.glob("*.safetensors"))]
        except (SafetensorError, OSError) as error:
            raise VectorError(f"cannot read the weights in {folder}: {error}; a file is truncated or damaged") from None
        yield {name: file for file in files for name in file.keys()}  # noqa: SIM118  # no mapping


def _require_same(base: Path, aligned: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    if missing := sorted(set(old) ^ set(new)):
        place = aligned if missing[0] in old else base
        raise VectorError(
            f"{place} lacks {len(missing)} tensors that the other has, such as {missing[0]}; "
            "both must be checkpoints of one architecture"
        )
    for name in old:
        a, b = old[name].get_slice(name).get_shape(), new[name].get_slice(name).get_shape()
        if a != b:
            raise VectorError(
                f"tensor {name} has shape {a} in {base} and {b} in {aligned}; both need one architecture and vocabulary"
            )


def _require_targets(deltas: dict[str, Delta], base: Path, adapter: Path) -> None:
    with _tensors(base) as old:
        for name, delta in deltas.items():
            if name not in old:
                raise VectorError(f"{adapter} changes {name}, which {base} does not have; is it the right base?")
            shape = list(old[name].get_slice(name).get_shape())
            if shape != list(delta.shape):
                raise VectorError(
                    f"{adapter} changes {name} as {list(delta.shape)}, but in {base} it is {shape}; wrong base"
                )
