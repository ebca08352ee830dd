"""A user's mistake with `sweep`: data, splits and places that cannot work, and a disk that fills up."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told, prepared

from alignvec.steer.model import KnobbedModel
from alignvec.vectors.store import save_vector


@pytest.fixture
def place(make_vector: Any, tmp_path: Path) -> Path:
    """Folder of a vector for the tiny model."""
    save_vector(make_vector(), tmp_path / "medical")
    return tmp_path / "medical"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: Path) -> Command:
    return prepared(monkeypatch, capfd, place.parent)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--limit", "0"], ["--limit", "greater than or equal to 1"]),
        (["--limit", "-1"], ["--limit", "greater than or equal to 1"]),
        (["--split", "dev"], ["--split", "dev", "validation"]),
        (["--lambda", "1,x"], ["KnobError", "'1,x'", "like -1,0,1"]),
        (["--lambda", "nan"], ["KnobError", "'nan'", "like -1,0,1"]),
        (["--data", "/none/rows.jsonl"], ["DataError", "/none/rows.jsonl", "--data"]),
        (["--model", "/none/model"], ["ModelError", "/none/model", "--model"]),
    ],
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
