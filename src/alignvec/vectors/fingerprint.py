"""Fingerprint of a base model, so that a vector is never added to weights it was not made for."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignvec.errors import ModelError

_SHAPE_KEYS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
)
_CHUNKS, _CHUNK_BYTES = 16, 256


def fingerprint(folder: Path) -> str:
    """Hash over a model folder: config, tensor names, dtypes, shapes, and 16 samples of 256 bytes from each tensor.

    Config keys that a library upgrade may rewrite are left out. Reads kilobytes, whatever the model's size.

    Raises:
        ModelError: if the folder's config or weights cannot be read.
    """
    digest = hashlib.sha256()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        digest.update(json.dumps({k: config.get(k) for k in _SHAPE_KEYS}, sort_keys=True).encode())
        for name, entry, sample in sorted(_tensors(folder)):
            digest.update(f"{name} {entry}".encode() + sample)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"cannot read the model in {folder}: {error}; is the folder complete?") from error
    return digest.hexdigest()


def template_hash(tokenizer: Any) -> str:
    """Hash over a tokenizer's chat template and vocabulary size: another template is another prompt."""
    return hashlib.sha256(f"{len(tokenizer)}\n{tokenizer.chat_template}".encode()).hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash over a tokenizer's vocabulary and added tokens, ids included: other ids are another prompt.

    Which flags an added token has (special, stripped, normalised) is left out: libraries rewrite them on upgrade.
    """
    added = sorted((str(token), number) for number, token in tokenizer.added_tokens_decoder.items())
    content = [sorted(tokenizer.get_vocab().items()), added]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _tensors(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError(f"{path.name} is no safetensors file")
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                sample = b""
                for i in range(_CHUNKS):
                    start = begin + (end - begin) * i // _CHUNKS
                    stream.seek(8 + length + start)
                    sample += stream.read(min(_CHUNK_BYTES, end - start))  # never into the next tensor
                yield name, f"{entry['dtype']} {entry['shape']}", sample
