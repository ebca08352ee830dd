"""A user's mistake with `extract` and `train`: models, names, places and recipes that cannot work."""

import errno
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import Command, Done, assert_told, prepared
from safetensors.torch import load_file, save_file


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def aligned(tiny_folder: Path, tmp_path: Path) -> Path:
    """A fine-tune of the tiny model: one tensor is doubled."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "aligned"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def extract(command: Command, base: Path, aligned: Path, out: Path, name: str = "tone") -> Done:
    return command("extract", "--base", base, "--aligned", aligned, "--name", name, "--out", out)


def test_extract_tells_models_that_are_missing_or_the_same(command: Command, tiny_folder: Path, tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert_told(extract(command, none, tiny_folder, tmp_path / "v"), "ModelError", none, "--model")
    assert_told(extract(command, tiny_folder, none, tmp_path / "v"), "ModelError", none, "--model")
    assert_told(extract(command, tiny_folder, tiny_folder, tmp_path / "v"), "VectorError", "nothing to extract")
    assert not (tmp_path / "v").exists()


def test_extract_tells_a_base_without_a_tokenizer(command: Command, aligned: Path, tmp_path: Path) -> None:
    base = tmp_path / "bare"
    base.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(aligned / name, base)
    assert_told(extract(command, base, aligned, tmp_path / "v"), "ModelError", base)


@pytest.mark.parametrize(
    "settings",
    [b'{"peft_type": ', b"[1]", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"lora_alpha": 8}'],
    ids=["cut", "list", "bytes", "bare", "deep", "kind"],
)
def test_extract_tells_an_adapter_with_damaged_settings(
    command: Command, tiny_folder: Path, tmp_path: Path, settings: bytes
) -> None:
    (tmp_path / "adapter").mkdir()
    place = tmp_path / "adapter" / "adapter_config.json"
    place.write_bytes(settings)
    assert_told(extract(command, tiny_folder, place.parent, tmp_path / "v"), "VectorError", place, "adapter")


def test_extract_tells_an_out_below_a_file(command: Command, tiny_folder: Path, aligned: Path, tmp_path: Path) -> None:
    done = extract(command, tiny_folder, aligned, tmp_path / "file" / "v")
    assert_told(done, "StorageError", tmp_path / "file" / "v", "choose another place")


@pytest.mark.parametrize("out", ["file", "thesis"])
def test_extract_never_deletes_what_is_no_vector(
    command: Command, tiny_folder: Path, aligned: Path, tmp_path: Path, out: str
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    done = extract(command, tiny_folder, aligned, tmp_path / out)
    assert (tmp_path / "file").read_text() == (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"
    assert_told(done, tmp_path / out)


@pytest.mark.parametrize("name", ["a,b", "a=b", "", "a b"])
def test_extract_tells_a_name_that_no_knob_can_have(
    command: Command, tiny_folder: Path, aligned: Path, tmp_path: Path, name: str
) -> None:
    assert_told(extract(command, tiny_folder, aligned, tmp_path / "v", name), "name")


def test_extract_tells_a_disk_that_fills_up_under_the_tensors(
    command: Command, tiny_folder: Path, aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", *a, **k: Full() if mode == "wb" else opened(self, mode, *a, **k)
    )
    done = extract(command, tiny_folder, aligned, tmp_path / "v")
    assert_told(done, "StorageError", tmp_path / "v", "no space left on the device; free some space")
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name: medical\nbase: /none/model\nspeed: 9\n", ["ConfigError", "speed"]),
        ("name: medical\nbase: /none/model\nepochs: many\n", ["ConfigError", "epochs"]),
        ("name: medical\nbase: /none/model\nepochs: .inf\n", ["ConfigError", "epochs"]),
        ("name: medical\nbase: /none/model\nbeta: .nan\n", ["ConfigError", "beta"]),
        ("name: a=b\nbase: /none/model\n", ["ConfigError", "name"]),
        ("name: medical\nbase: /none/model\norder: expert\n", ["ConfigError", "order", "separate two ranks with '>'"]),
        ("name: [\n", ["ConfigError", "YAML mapping"]),
        ("- name\n", ["ConfigError", "no YAML mapping", "see recipes/"]),
        ("", ["ConfigError", "no YAML mapping", "see recipes/"]),
    ],
)
def test_a_recipe_that_cannot_work_is_told_by_file_and_key(
    command: Command, tmp_path: Path, text: str, parts: list[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    done = command("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert_told(done, tmp_path / "recipe.yaml", *parts)


def test_a_missing_recipe_is_told(command: Command, tmp_path: Path) -> None:
    done = command("train", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert_told(done, "ConfigError", tmp_path / "none.yaml", "recipes/")


def test_a_base_without_a_tokenizer_is_told(
    command: Command, tiny_folder: Path, data_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "base", ignore=shutil.ignore_patterns("token*", "chat*"))
    (tmp_path / "recipe.yaml").write_text(f"name: medical\nbase: {tmp_path / 'base'}\ndata: {data_file}\n")
    done = command("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert_told(done, "ModelError", tmp_path / "base", "is the folder complete?")
