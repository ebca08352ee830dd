"""A user's mistake: exit code 2, one line that names the thing and the next step, and no traceback."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import write_tiny_model
from running import Command, Done
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from alignvec import models
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.store import ADAPTER, CARD, save_vector


@pytest.fixture
def place(make_vector: Any, tmp_path: Path) -> Path:
    """Folder of a vector for the tiny model; its parent holds no other."""
    save_vector(make_vector(), tmp_path / "vectors" / "medical")
    return tmp_path / "vectors" / "medical"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> Command:
    assert place.is_dir()  # made before the capture begins
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "cache"))
    return Command(monkeypatch, capfd)


def assert_told(done: Done, *parts: object) -> None:
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert len(done.errors) == 1, done.err
    for part in parts:
        assert str(part) in done.errors[0]


@pytest.mark.parametrize(
    ("knob", "parts"),
    [
        ("legal=1", ["'legal'", "have: medical", "--knob"]),
        ("medical=nan", ["'medical'", "nan is not a finite number", "medical=0.5"]),
        ("medical=inf", ["'medical'", "inf is not a finite number", "medical=0.5"]),
        ("medical=-inf", ["'medical'", "-inf is not a finite number", "medical=0.5"]),
        ("medical=1e999", ["'medical'", "not a finite number", "medical=0.5"]),
        ("medical=very", ["'very' is not a number or a level (avoidance, generic, expert)", "medical=0.5"]),
        ("medical", ["cannot read knob 'medical'", "write it like medical=0.5"]),
        ("=1", ["cannot read knob '=1'", "write it like medical=0.5"]),
        ("medical=1,medical=2", ["'medical' is given twice", "give it once"]),
    ],
)
@pytest.mark.parametrize("name", ["ask", "chat"])
def test_a_bad_knob_is_told_before_anything_loads(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch, name: str, knob: str, parts: list[str]
) -> None:
    monkeypatch.delattr(models, "load")
    words = ["Why?"] if name == "ask" else []
    assert_told(command(name, *words, "--knob", knob, "--vectors", place), "KnobError", *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model", "/none/model"], ["ModelError", "/none/model", "--model"]),
        (["--vectors", "/none/vectors"], ["VectorError", "/none/vectors", "--vectors"]),
        (["--dtype", "int8"], ["ModelError", "int8", "have: float32", "--dtype"]),
        (["--device", "nonsense"], ["ModelError", "nonsense", "--device"]),
        (["--temperature", "nan"], ["nan", "temperature"]),
        (["--temperature", "-1"], ["--temperature", "-1"]),
        (["--max-new-tokens", "0"], ["--max-new-tokens", "0"]),
        (["--max-new-tokens", "600"], ["DataError", "context of 512", "--max-new-tokens"]),
        (["--no-such-option"], ["--no-such-option"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_ask_tells_an_option_that_cannot_work(
    command: Command, tiny_folder: Path, place: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_told(command("ask", "Why?", "--model", tiny_folder, "--vectors", place, *arguments), *parts)


def test_a_query_longer_than_the_context_is_told(command: Command, tiny_folder: Path, place: Path) -> None:
    done = command("ask", "why " * 200, "--model", tiny_folder, "--vectors", place)
    assert_told(done, "DataError", "context of 512", "shorten the query")


def test_a_vector_of_another_base_is_told_and_can_be_moved_on_purpose(
    command: Command, place: Path, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other", seed=1)
    ask = ["ask", "Why?", "--model", other, "--vectors", place, "--knob", "medical=1", "--max-new-tokens", 2]
    assert_told(command(*ask), "VectorError", "'medical'", "load the right base", "--allow-other-base")
    assert command(*ask, "--allow-other-base").code == 0


def test_two_vectors_of_one_name_are_told(command: Command, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "copy")
    done = command("ask", "Why?", "--vectors", place, "--vectors", tmp_path / "copy")
    assert_told(done, "VectorError", "'medical'", "rename one in its card.json")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [ADAPTER, f"negative/{ADAPTER}"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_vector_is_told_by_its_file(command: Command, place: Path, name: str, damage: Any) -> None:
    damage(place / name)
    assert_told(command("inspect", place), "VectorError", place / name, "copy")


@pytest.mark.parametrize("text", ["{", '{"format_version": 2}', '{"name": "x", "extra": 1}', ""])
def test_a_damaged_card_is_told_by_its_file(command: Command, place: Path, text: str) -> None:
    (place / CARD).write_text(text)
    assert_told(command("inspect", place), "VectorError", place / CARD, "damaged or from another version")


@pytest.mark.parametrize("name", ["inspect", "sweep"])
def test_a_missing_vector_is_told(command: Command, tmp_path: Path, name: str) -> None:
    assert_told(command(name, tmp_path / "none"), "VectorError", tmp_path / "none", "check the path")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--limit", "0"], ["--limit", "0"]),
        (["--limit", "-1"], ["--limit", "-1"]),
        (["--split", "dev"], ["--split", "dev", "validation"]),
        (["--lambda", "1,x"], ["KnobError", "'1,x'", "like -1,0,1"]),
        (["--lambda", "nan"], ["KnobError", "'nan'", "like -1,0,1"]),
        (["--data", "/none/rows.jsonl"], ["DataError", "/none/rows.jsonl", "--data"]),
        (["--model", "/none/model"], ["ModelError", "/none/model", "--model"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else None,
)
def test_sweep_tells_an_option_that_cannot_work(
    command: Command, tiny_folder: Path, place: Path, data_file: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_told(command("sweep", place, "--model", tiny_folder, "--data", data_file, *arguments), *parts)


def test_malformed_data_is_told_by_file_and_line(command: Command, place: Path, data_file: Path) -> None:
    lines = data_file.read_text().splitlines()
    data_file.write_text("\n".join([*lines[:2], lines[2][:-5], *lines[3:]]))
    assert_told(command("sweep", place, "--data", data_file), "DataError", f"{data_file}:3: ", "mend the line")


def test_an_empty_split_is_told_with_those_there(command: Command, place: Path, data_file: Path) -> None:
    kept = [line for line in data_file.read_text().splitlines() if json.loads(line)["split"] != "validation"]
    data_file.write_text("\n".join(kept))
    done = command("sweep", place, "--data", data_file, "--split", "validation")
    assert_told(done, "DataError", data_file, "split=validation", "splits there: test, train")


def test_a_domain_without_shipped_data_is_told(command: Command, make_vector: Any, tmp_path: Path) -> None:
    save_vector(make_vector("tax"), tmp_path / "tax")
    assert_told(command("sweep", tmp_path / "tax"), "DataError", "'tax'", "have: financial", "--data FILE.jsonl")


@pytest.mark.parametrize("out", ["file", "file/x"])
def test_an_out_that_is_a_file_or_below_one_is_told_before_the_model_is_asked(
    command: Command, tiny_folder: Path, place: Path, data_file: Path, tmp_path: Path, out: str
) -> None:
    command.monkeypatch.delattr(KnobbedModel, "score")
    options = ["--data", data_file, "--limit", 1, "--generate", 0, "--out", tmp_path / out]
    done = command("sweep", place, "--model", tiny_folder, *options)
    assert_told(done, "StorageError", tmp_path / out, "choose another place")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_cache_below_a_file_is_told(command: Command, place: Path, tmp_path: Path) -> None:
    command.monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "file" / "x"))
    done = command("ask", "Why?", "--model", "demo", "--vectors", place)
    assert_told(done, "StorageError", tmp_path / "file" / "x", "choose another place")


def test_a_full_disk_is_told_and_the_finished_scores_are_kept(
    command: Command, tiny_folder: Path, place: Path, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = ["sweep", place, "--model", tiny_folder, "--data", data_file, "--limit", 1, "--generate", 0]

    def full(handle: int, *_: Any, **__: Any) -> Any:
        os.close(handle)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("alignvec.files.os.fdopen", full)
        done = command(*sweep, "--out", tmp_path / "out")
    assert_told(done, "StorageError", tmp_path / "out", "no space left on the device; free some space")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["journal.jsonl"]
    monkeypatch.delattr(KnobbedModel, "score")
    assert command(*sweep, "--out", tmp_path / "out").code == 0


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
    def full(*_: Any, **__: Any) -> None:  # as safetensors tells it: no OSError
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("alignvec.vectors.store.save_file", full)
    done = extract(command, tiny_folder, aligned, tmp_path / "v")
    assert_told(done, "StorageError", tmp_path / "v", "no space left on the device; free some space")
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name: medical\nspeed: 9\n", ["ConfigError", "speed"]),
        ("name: medical\nepochs: many\n", ["ConfigError", "epochs"]),
        ("name: medical\nepochs: .inf\n", ["ConfigError", "epochs"]),
        ("name: medical\nbeta: .nan\n", ["ConfigError", "beta"]),
        ("name: a=b\n", ["ConfigError", "name"]),
        ("name: medical\norder: expert\n", ["ConfigError", "order", "separate two ranks with '>'"]),
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
