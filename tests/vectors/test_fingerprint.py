"""What changes a base model's fingerprint and what does not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec.errors import ModelError
from alignvec.models import BaseModel
from alignvec.vectors.fingerprint import fingerprint, template_hash, tokenizer_hash

WEIGHTS = "model.safetensors"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def change_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_copy_has_the_same_fingerprint(tiny_folder: Path, copy: Path) -> None:
    assert fingerprint(copy) == fingerprint(tiny_folder)


def test_a_change_of_any_tensor_changes_it(tiny_folder: Path, copy: Path) -> None:
    original = load_file(tiny_folder / WEIGHTS)
    seen = {fingerprint(tiny_folder)}
    for name in original:
        tensors = {**original, name: original[name] * 1.001}
        save_file(tensors, copy / WEIGHTS, metadata={"format": "pt"})
        seen.add(fingerprint(copy))
    assert len(seen) == len(original) + 1


def test_one_element_of_a_small_tensor_changes_it(tiny_folder: Path, copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors["model.norm.weight"][17].add_(1e-3))
    assert fingerprint(copy) != fingerprint(tiny_folder)


def test_a_renamed_tensor_changes_it(tiny_folder: Path, copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors.update({"model.other.weight": tensors.pop("model.norm.weight")}))
    assert fingerprint(copy) != fingerprint(tiny_folder)


def test_another_dtype_changes_it(tiny_folder: Path, copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()}))
    assert fingerprint(copy) != fingerprint(tiny_folder)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "model_type"])
def test_another_architecture_changes_it(tiny_folder: Path, copy: Path, key: str) -> None:
    change_config(copy, **{key: "other" if key == "model_type" else 64})
    assert fingerprint(copy) != fingerprint(tiny_folder)


def test_what_a_library_upgrade_writes_does_not_change_it(tiny_folder: Path, copy: Path) -> None:
    change_config(copy, transformers_version="9.9.9", use_cache=False, torch_dtype="float32", _name_or_path="elsewhere")
    assert fingerprint(copy) == fingerprint(tiny_folder)


def test_the_same_weights_in_shards_have_the_same_fingerprint(tiny_folder: Path, copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    (copy / WEIGHTS).unlink()
    for number in (0, 1):
        part = dict(list(tensors.items())[number::2])
        save_file(part, copy / f"model-0000{number + 1}-of-00002.safetensors", metadata={"format": "pt"})
    assert fingerprint(copy) == fingerprint(tiny_folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", None),
        ("config.json", b"{not json"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[]"),
        (WEIGHTS, b"short"),
        (WEIGHTS, b"\xff" * 64),
        (WEIGHTS, (2).to_bytes(8, "little") + b"{["),
        (WEIGHTS, (2).to_bytes(8, "little") + b"[]"),
        (WEIGHTS, (10).to_bytes(8, "little") + b'{"a": {} }'),
    ],
)
def test_a_damaged_folder_is_a_model_error_that_names_it(copy: Path, file: str, content: bytes | None) -> None:
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_bytes(content)
    with pytest.raises(ModelError, match=str(copy)):
        fingerprint(copy)


def test_another_chat_template_or_vocabulary_is_another_template_hash(tiny: BaseModel) -> None:
    before = template_hash(tiny.tokenizer)
    assert template_hash(tiny.tokenizer) == before
    template = tiny.tokenizer.chat_template
    tiny.tokenizer.chat_template = template + " "
    assert template_hash(tiny.tokenizer) != before
    tiny.tokenizer.chat_template = template
    tiny.tokenizer.add_tokens(["<|new|>"])
    assert template_hash(tiny.tokenizer) != before


class _Tokenizer:
    """What the hashes read of a tokenizer."""

    chat_template = "{{ messages }}"
    added_tokens_decoder = {10: "<|b|>", 9: "<|a|>"}  # noqa: RUF012 (a tokenizer's own, not changed)

    def __len__(self) -> int:
        return 11

    def get_vocab(self) -> dict[str, int]:
        return {"z": 1, "é": 0, "<|b|>": 10}


def test_the_hashes_are_those_that_stored_cards_have(tmp_path: Path) -> None:
    """Another way to hash would refuse every vector that was ever saved, so the hashes themselves are fixed."""
    config = {"model_type": "llama", "vocab_size": 7, "head_dim": None, "tie_word_embeddings": True, "use_cache": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    long = torch.arange(30_011, dtype=torch.float32).view(30_011, 1)
    for name, tensors in {
        "b": {"y": long, "z": torch.ones(3)},
        "a": {"é": long.bfloat16(), "s": torch.ones(())},
    }.items():
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata={"format": "pt"})
    assert fingerprint(tmp_path) == "a18ce52e5d5c2de58b6de763bb2d3c7552638a2cb3e27ca9ee01993ffb7ceef7"
    assert template_hash(_Tokenizer()) == "d3d8e607a4ee4c6372c01b36a7ef1a877947c1eb45c4878ccea3223828ce350e"
    assert tokenizer_hash(_Tokenizer()) == "bb01b116afaf320c7801bde4655d833cb06da5b1e0e008a93100f60e22568150"
