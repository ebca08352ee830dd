"""Base models: what is loaded, and what is said of folders that cannot be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec import models
from alignvec.errors import ModelError


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that cannot be reached; lists what was asked of it."""
    asked: list[str] = []

    def unreachable(name: str, **_: Any) -> str:
        asked.append(name)
        raise ConnectionError("could not resolve host\nmany more lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    return asked


def complaint(name: str | Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        models.load(str(name), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_loads_ready_for_inference(folder: Path) -> None:
    base = models.load(str(folder), device="cpu")
    assert (base.name, base.folder, base.context_length) == (str(folder), folder, 512)
    assert not base.model.training
    assert base.device == torch.device("cpu")
    stored = load_file(folder / "model.safetensors")
    weights = dict(base.model.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in stored.items())


@pytest.mark.parametrize("dtype", models.DTYPES)
def test_weights_come_in_the_dtype_asked_for(folder: Path, dtype: str) -> None:
    base = models.load(str(folder), dtype=dtype, device="cpu")
    assert {parameter.dtype for parameter in base.model.parameters()} == {getattr(torch, dtype)}


def test_a_tokenizer_without_padding_pads_with_its_end_token(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "pad_token"}))
    assert models.load(str(folder), device="cpu").tokenizer.pad_token == "<|im_end|>"


def test_an_unknown_dtype_lists_the_known_ones() -> None:
    assert complaint("x", dtype="int8") == "unknown dtype 'int8' (have: float32, bfloat16, float16); check --dtype"


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_by_name(folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match=device):
        models.load(str(folder), device=device)


@pytest.mark.parametrize("name", ["./none", "/none/such", "~/none", "../none", "a/b/c"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(no_network: list[str], name: str) -> None:
    assert complaint(name) == f"no model folder at {name}; check the path (--model, --base or --aligned)"
    assert no_network == []


def test_a_name_that_the_hub_cannot_give_says_both_and_the_way_out(no_network: list[str]) -> None:
    said = complaint("some-org/some-model")
    assert no_network == ["some-org/some-model"]
    assert said.startswith("'some-org/some-model' is neither a folder nor a model that could be fetched from the hub")
    assert "(ConnectionError)" in said
    assert said.endswith("('demo' needs neither)")


def test_a_folder_without_config_or_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert complaint(folder) == (f"{folder} has no *.safetensors weights; convert the model with save_pretrained first")
    (folder / "config.json").unlink()
    assert complaint(folder).startswith(f"{folder} has no config.json")


def test_a_tokenizer_without_a_chat_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert complaint(folder) == f"the tokenizer in {folder} has no chat template; use an instruction-tuned model"


@pytest.mark.parametrize("kept", [0, 5, 2000, -100])
def test_truncated_weights_are_refused_in_one_line(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert complaint(folder).startswith(f"cannot load the model in {folder}: ")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_damaged_json_file_is_refused_in_one_line(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    assert complaint(folder).startswith(f"cannot load the model in {folder}: ")


def test_weights_that_lack_a_tensor_are_refused_by_its_name(folder: Path) -> None:
    path, lost = folder / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    tensors = {name: value for name, value in load_file(path).items() if name != lost}
    save_file(tensors, path, metadata={"format": "pt"})
    assert lost in complaint(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: own\n---\n", "own"),
        ("---\nlicense: [mit, gemma]\n---\n", "mit AND gemma"),
        ("---\nlanguage: en\n---\n", None),
        ("# no front matter", None),
        ("---\n- a\n---\n", None),
        ("---\nlicense: [mit\n---\n", None),
        (None, None),
    ],
)
def test_a_base_states_its_licence_in_its_own_card(tmp_path: Path, text: str | None, expected: str | None) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert models.stated_licence(tmp_path) == expected
