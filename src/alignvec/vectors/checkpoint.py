"""A model folder's tensors, sharded or not, without loading them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from alignvec.errors import VectorError
from alignvec.vectors.tensorfile import Entry, Reader, read_header

INDEX = "model.safetensors.index.json"
_INPUT_EMBEDDINGS = (
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "gpt_neox.embed_in.weight",
    "model.decoder.embed_tokens.weight",
)
_OUTPUT_HEADS = ("lm_head.weight", "embed_out.weight")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a Hugging Face model folder.

    Attributes:
        folder: the folder.
        files: safetensors files in name order, each with its entries in byte order and its metadata.
        tied: whether the config ties the output head to the input embedding.
    """

    folder: Path
    files: Mapping[Path, tuple[list[Entry], dict[str, str]]]
    tied: bool
    reader: Reader = field(default_factory=Reader, compare=False)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Entries by tensor name, in file order."""
        return {entry.name: entry for entries, _ in self.files.values() for entry in entries}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows of a tensor in its own dtype."""
        return self.reader.rows(self.entries[name], start, stop)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a model folder's weights.

    Raises:
        VectorError: if a shard that the index names is missing or lies in another folder, a file is truncated, or a
            tensor stands in two files.
    """
    paths = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX
    if index.is_file():
        try:
            weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            wanted = sorted(set(map(str, weight_map.values())))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise VectorError(f"cannot read {index}: {error}; copy the whole folder again") from None
        if outside := [name for name in wanted if Path(name).name != name]:
            raise VectorError(
                f"{index} names the shard {outside[0]!r}; shards must lie beside it, so put them all there"
            )
        if missing := [name for name in wanted if not (folder / name).is_file()]:
            raise VectorError(
                f"{folder} lacks {missing[0]}" + (f" and {len(missing) - 1} more shards" if missing[1:] else "") + ", "
                f"which {INDEX} names; copy the whole folder again"
            )
        paths = [folder / name for name in wanted]
    if not paths:
        raise VectorError(f"{folder} has no *.safetensors weights; convert the model with save_pretrained first")
    files = {path: read_header(path) for path in paths}
    seen: dict[str, Path] = {}
    for path, (entries, _) in files.items():
        for entry in entries:
            if entry.name in seen:
                raise VectorError(f"tensor {entry.name} stands in {seen[entry.name]} and in {path}; keep one of them")
            seen[entry.name] = path
    if index.is_file() and (absent := sorted(set(weight_map) - set(seen))):
        raise VectorError(f"{folder}: {INDEX} names {absent[0]}, which no shard holds; copy the whole folder again")
    return Checkpoint(folder, files, _is_tied(folder, seen))


def tied_twin(checkpoint: Checkpoint, name: str) -> str | None:
    """For an output head that is tied to the input embedding: the embedding's name; else None."""
    if checkpoint.tied and name in _OUTPUT_HEADS:
        return next((n for n in _INPUT_EMBEDDINGS if n in checkpoint.entries), None)
    return None


def _is_tied(folder: Path, tensors: Collection[str]) -> bool:
    config = _config(folder)
    if "tie_word_embeddings" in config:
        return bool(config["tie_word_embeddings"])
    from transformers import AutoConfig

    try:  # a key that has its architecture's default may be left out, and not every default is False
        known = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return bool(known.get_text_config().tie_word_embeddings)
    except Exception:  # whatever an unknown architecture or an odd value makes the library raise
        return not any(head in tensors for head in _OUTPUT_HEADS)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VectorError(f"cannot read {folder / 'config.json'}: {error}; is the folder complete?") from None
    if not isinstance(config, dict):
        raise VectorError(f"{folder / 'config.json'} is no JSON object; copy the whole folder again")
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) and "tie_word_embeddings" in text else config
