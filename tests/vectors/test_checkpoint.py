"""A model folder's weights, in one file or in shards, seen through their headers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from alignvec.errors import VectorError
from alignvec.vectors.checkpoint import INDEX, open_checkpoint, tied_twin


@pytest.fixture
def single(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "single"))


@pytest.fixture
def sharded(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model as transformers shards it."""
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(tmp_path / "sharded", max_shard_size="30KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    return tmp_path / "sharded"


def change_index(folder: Path, **names: Any) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"].update(names)
    (folder / INDEX).write_text(json.dumps(index))


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize("layout", ["single", "sharded"])
def test_it_holds_the_models_tensors_whatever_the_layout(
    layout: str, tiny_folder: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(layout)
    checkpoint, expected = open_checkpoint(folder), load_file(tiny_folder / "model.safetensors")
    assert set(checkpoint.entries) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.rows(name), tensor)
        assert torch.equal(checkpoint.rows(name, 3, 9), tensor[3:9])


def test_files_come_by_name_and_entries_in_byte_order(sharded: Path) -> None:
    checkpoint = open_checkpoint(sharded)
    assert list(checkpoint.files) == sorted(sharded.glob("*.safetensors"))
    for path, (entries, metadata) in checkpoint.files.items():
        assert metadata == {"format": "pt"}
        assert [e.path for e in entries] == [path] * len(entries)
        assert [e.begin for e in entries] == sorted(e.begin for e in entries)
    flat = [e.name for entries, _ in checkpoint.files.values() for e in entries]
    assert list(checkpoint.entries) == flat


def test_files_that_the_index_does_not_name_are_left_alone(sharded: Path) -> None:
    before = set(open_checkpoint(sharded).entries)
    save_file({"leftover": torch.ones(2)}, sharded / "old.safetensors")
    assert set(open_checkpoint(sharded).entries) == before


def test_a_missing_shard_is_named(sharded: Path) -> None:
    shards = sorted(sharded.glob("*.safetensors"))
    shards[1].unlink()
    with pytest.raises(VectorError, match=f"{sharded} lacks {shards[1].name}, which {INDEX} names; copy"):
        open_checkpoint(sharded)
    shards[2].unlink()
    with pytest.raises(VectorError, match=f"lacks {shards[1].name} and 1 more shards, which"):
        open_checkpoint(sharded)


def test_a_tensor_that_the_index_names_and_no_shard_holds_is_named(sharded: Path) -> None:
    change_index(sharded, **{"model.extra.weight": sorted(p.name for p in sharded.glob("*.safetensors"))[0]})
    with pytest.raises(VectorError, match=f"{INDEX} names model.extra.weight, which no shard holds"):
        open_checkpoint(sharded)


def test_a_tensor_in_two_files_is_named_with_both(single: Path) -> None:
    save_file({"model.norm.weight": torch.ones(32)}, single / "more.safetensors")
    with pytest.raises(VectorError, match=r"model.norm.weight stands in .*model.safetensors and in .*more.safetensors"):
        open_checkpoint(single)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"x": 3}}'])
def test_a_broken_index_is_told(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_text(text)
    with pytest.raises(VectorError, match=f"{sharded}.*copy the whole folder again"):
        open_checkpoint(sharded)


def test_a_truncated_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(VectorError, match=f"cannot read {shard}: "):
        open_checkpoint(sharded)


def test_a_folder_without_weights_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(VectorError, match=r"no \*.safetensors weights; convert the model with save_pretrained"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", [None, "", "[]"])
def test_a_missing_or_broken_config_is_told(single: Path, text: str | None) -> None:
    (single / "config.json").unlink()
    if text is not None:
        (single / "config.json").write_text(text)
    with pytest.raises(VectorError, match=f"{single / 'config.json'}"):
        open_checkpoint(single)


def test_a_tied_heads_twin_is_the_input_embedding(single: Path) -> None:
    checkpoint = open_checkpoint(single)
    assert checkpoint.tied
    assert tied_twin(checkpoint, "lm_head.weight") == "model.embed_tokens.weight"
    assert tied_twin(checkpoint, "model.norm.weight") is None


def test_an_untied_head_has_no_twin(single: Path) -> None:
    change_config(single, tie_word_embeddings=False)
    assert tied_twin(open_checkpoint(single), "lm_head.weight") is None


def test_a_multimodal_models_text_part_says_whether_it_is_tied(single: Path) -> None:
    for tied in (True, False):
        change_config(single, tie_word_embeddings=not tied, text_config={"tie_word_embeddings": tied})
        assert open_checkpoint(single).tied is tied
    change_config(single, tie_word_embeddings=True, text_config={"hidden_size": 32})
    assert open_checkpoint(single).tied


def test_a_tied_head_without_a_known_embedding_has_no_twin(single: Path) -> None:
    tensors = load_file(single / "model.safetensors")
    tensors["encoder.words.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, single / "model.safetensors", metadata={"format": "pt"})
    assert tied_twin(open_checkpoint(single), "lm_head.weight") is None


@pytest.mark.parametrize("place", ["sub/{}", "../sharded/{}", "./{}", "{folder}/{}"])
def test_a_shard_in_another_folder_is_refused(sharded: Path, place: str) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[0]
    name = place.format(shard.name, folder=sharded)
    shutil.copytree(sharded, sharded / "sub")
    index = json.loads((sharded / INDEX).read_text())
    moved = {tensor: name if file == shard.name else file for tensor, file in index["weight_map"].items()}
    (sharded / INDEX).write_text(json.dumps({**index, "weight_map": moved}))
    with pytest.raises(VectorError, match=f"{INDEX} names the shard '{name}'; shards must lie beside it"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("kind", ["llama", "gemma", "gpt2", "gpt_neox"])
def test_a_config_that_does_not_say_has_its_architectures_default(tmp_path: Path, kind: str) -> None:
    import transformers

    small = {"vocab_size": 16, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "head_dim": 4}
    config = transformers.AutoConfig.for_model(kind, **small, intermediate_size=8)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    written.pop("tie_word_embeddings", None)
    (tmp_path / "config.json").write_text(json.dumps(written))
    shared = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert shared is (kind in ("gemma", "gpt2"))
    assert open_checkpoint(tmp_path).tied is shared


@pytest.mark.parametrize("head", [True, False])
def test_an_unknown_architecture_is_tied_if_it_stores_no_head(single: Path, head: bool) -> None:
    config = json.loads((single / "config.json").read_text())
    del config["tie_word_embeddings"]
    remote = {"AutoConfig": "own.Config"}  # its code must not be run, nor asked for
    (single / "config.json").write_text(json.dumps({**config, "model_type": "my_own", "auto_map": remote}))
    if head:
        tensors = load_file(single / "model.safetensors")
        save_file({**tensors, "lm_head.weight": torch.ones(258, 32)}, single / "model.safetensors")
    assert open_checkpoint(single).tied is not head
