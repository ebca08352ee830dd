"""Vectors from what training leaves behind: a LoRA adapter (exact), or two full checkpoints (θ_aligned − θ_base)."""

import hashlib
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from alignvec import demo_model
from alignvec.errors import ModelError, VectorError
from alignvec.models import DEMO, resolve, stated_licence
from alignvec.vectors.adapter import ADAPTER, ADAPTER_CONFIG, read_adapter
from alignvec.vectors.adapter_settings import read_settings, require_rank
from alignvec.vectors.card import NAME, BaseReference, Card
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.difference import difference
from alignvec.vectors.fingerprint import fingerprint, template_hash, tokenizer_hash
from alignvec.vectors.store import NEGATIVE
from alignvec.vectors.vector import AlignmentVector, check_targets

_ROWS = 4096


def base_reference(name: str) -> BaseReference:
    """Name, hashes and licence of a base model, without loading its weights.

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
    return BaseReference(
        name=name,
        fingerprint=fingerprint(folder),
        template=template_hash(tokenizer),
        tokenizer=tokenizer_hash(tokenizer),
        licence=demo_model.LICENCE if name == DEMO else stated_licence(folder),
    )


def other_base(base: str, aligned: str) -> str | None:
    """The base that an adapter says it was trained on, if it names another one than is subtracted here.

    Raises:
        VectorError: if the adapter's settings cannot be read.
        ModelError: if there is no such base.
    """
    settings = Path(aligned).expanduser() / ADAPTER_CONFIG
    if not settings.is_file():
        return None
    named, folder = read_settings(settings).get("base_model_name_or_path"), resolve(base)
    if not isinstance(named, str) or not named:
        return None
    if os.path.isdir(named):  # noqa: PTH112  unlike Path's, it takes a name of any length
        return None if Path(named).samefile(folder) else named
    # A model that was moved, or a hub id of what lies here, goes by its last name alone: hence a warning, no error.
    return None if Path(named).name in (Path(base).name, folder.name) else named


def extract(
    base: str,
    aligned: str,
    *,
    name: str,
    allow: Collection[str] = (),
    advance: Callable[[int, int], None] = lambda _done, _total: None,
    **card: Any,
) -> AlignmentVector:
    """θ_aligned − θ_base as a single vector; of two full models it stays on disk until it is saved or used.

    Args:
        base: base model: `demo`, a folder or a hub id.
        aligned: folder of a PEFT LoRA adapter trained on the base, or a full model of the same architecture.
        name: the vector's (and knob's) name.
        allow: what to do about tensors that do not match; see `alignvec.vectors.mismatch.POLICIES`.
        advance: told the tensors that were compared, and all.
        card: further fields of the card.

    Raises:
        ModelError: if a model cannot be found.
        VectorError: if the two do not match tensor for tensor, or do not differ at all.
    """
    if not re.fullmatch(NAME, name):
        raise VectorError(f"a vector cannot be named {name!r}; use letters, digits, and . _ - after the first")
    reference = base_reference(base)
    adapter = Path(aligned).expanduser()
    if (adapter / NEGATIVE).is_dir():
        raise VectorError(f"{aligned} is a hinged vector, of which this would take one side; load it as it is")
    fields: dict[str, Any] = {"method": "one-sided", **card}
    if (adapter / ADAPTER_CONFIG).is_file():
        checkpoint = open_checkpoint(resolve(base))
        deltas = read_adapter(adapter, base=checkpoint)
        require_rank(adapter / ADAPTER_CONFIG, deltas)
        if not any(block.any() for delta in deltas.values() for block in delta.stream(_ROWS)):
            raise VectorError(f"{aligned} changes nothing: all its factors' products are 0; train it first")
        check_targets(name, deltas, checkpoint.entries)
        content = b"".join((adapter / file).read_bytes() for file in (ADAPTER_CONFIG, ADAPTER))
        identity = hashlib.sha256(content).hexdigest()
    else:
        folder = resolve(aligned)
        deltas, source = difference(resolve(base), folder, allow=allow, advance=advance)
        fields["source"] = source
        identity = fingerprint(folder)
    fields.setdefault("recipe", {"aligned": aligned, "aligned_fingerprint": identity})
    return AlignmentVector(Card(name=name, form="single", base=reference, **fields), deltas)
