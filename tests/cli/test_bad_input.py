"""A user's mistake in a knob, an option or a vector: exit code 2 and one line that names it and the next step."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told, prepared

from alignvec import models
from alignvec.vectors.adapter import ADAPTER
from alignvec.vectors.store import CARD, save_vector
from tests.conftest import write_tiny_model


@pytest.fixture
def place(make_vector: Any, tmp_path: Path) -> Path:
    """Folder of a vector for the tiny model."""
    save_vector(make_vector(), tmp_path / "medical")
    return tmp_path / "medical"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: Path) -> Command:
    return prepared(monkeypatch, capfd, place.parent)


@pytest.mark.parametrize(
    ("knob", "parts"),
    [
        ("legal=1", ["'legal'", "have: medical", "--knob"]),
        ("medical=nan", ["'medical'", "nan is not a finite number", "medical=0.5"]),
        ("medical=inf", ["'medical'", "inf is not a finite number", "medical=0.5"]),
        ("medical=-inf", ["'medical'", "-inf is not a finite number", "medical=0.5"]),
        ("medical=1e999", ["'medical'", "not a finite number", "medical=0.5"]),
        (
            "medical=very",
            ["'very' is not a number, a level (avoidance, generic, expert)", "medical=0.5"],
        ),
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
        (["--temperature", "nan"], ["--temperature", "greater than or equal to 0"]),
        (["--temperature", "-1"], ["--temperature", "greater than or equal to 0"]),
        (["--max-new-tokens", "0"], ["--max-new-tokens", "greater than or equal to 1"]),
        (["--max-new-tokens", "600"], ["DataError", "context of 512", "--max-new-tokens"]),
        (["--no-such-option"], ["--no-such-option"]),
    ],
)
def test_ask_tells_an_option_that_cannot_work(
    command: Command, tiny_folder: Path, place: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_told(command("ask", "Why?", "--model", tiny_folder, "--vectors", place, *arguments), *parts)


def test_a_query_longer_than_the_context_is_told(command: Command, tiny_folder: Path, place: Path) -> None:
    done = command("ask", "why " * 200, "--model", tiny_folder, "--vectors", place)
    assert_told(done, "DataError", "context of 512", "shorten the query")


@pytest.mark.parametrize("name", ["ask", "chat"])
def test_a_knob_that_is_turned_too_far_is_told(command: Command, tiny_folder: Path, place: Path, name: str) -> None:
    words, typed = (["Why?"], "") if name == "ask" else ([], "Why?\n")
    done = command(name, *words, "--knob", "medical=1e38", "--model", tiny_folder, "--vectors", place, stdin=typed)
    assert len(done.errors) == 1 and "under medical=1e+38 the model's logits are no finite" in done.errors[0], done


def test_a_query_that_is_no_utf_8_is_told(command: Command, tiny_folder: Path, place: Path) -> None:
    done = command("ask", b"\xff\xfe".decode(errors="surrogateescape"), "--model", tiny_folder, "--vectors", place)
    assert_told(done, "DataError", "half a surrogate pair", "UTF-8")


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


def test_a_cache_below_a_file_is_told(command: Command, place: Path, tmp_path: Path) -> None:
    command.monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "file" / "x"))
    done = command("ask", "Why?", "--model", "demo", "--vectors", place)
    assert_told(done, "StorageError", tmp_path / "file" / "x", "choose another place")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["ask", "hello", "--knob", ""], "--knob is empty"),
        (["ask", "hello", "--vectors="], "--vectors is empty"),
        (["shipped", "--copy", ""], "--copy is empty"),
        (["extract", "--aligned", "x", "--name", "v", "--out", "v", "--negative", ""], "--negative is empty"),
        (["ask", ""], "an argument is empty"),
    ],
    ids=["knob", "equals", "copy", "negative", "question"],
)
def test_an_empty_argument_is_a_variable_that_was_not_set(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert_told(command(*arguments), "ConfigError", named, "give it a value, or leave it out")
    assert sorted(tmp_path.iterdir()) == before
