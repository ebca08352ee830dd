"""`alignvec transfer` on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import Command

from alignvec.steer.model import KnobbedModel
from alignvec.train.stage import write_stage
from alignvec.vectors.extract import base_reference
from alignvec.vectors.store import save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector


@pytest.fixture
def options(make_vector: MakeVector, tiny_folder: Path, data_file: Path, tmp_path: Path) -> list[Any]:
    """A stage with its own vector, and the vector of the base."""
    save_vector(make_vector("safety", seed=9, scale=0.05), tmp_path / "safety")
    write_stage(tmp_path / "safety", tmp_path / "stage", base=str(tiny_folder))
    native, foreign = make_vector(seed=1, scale=0.3), make_vector(seed=2, scale=0.3)
    base = base_reference(str(tmp_path / "stage"))
    save_vector(
        AlignmentVector(native.card.model_copy(update={"base": base}), native.positive, native.negative),
        tmp_path / "native",
    )
    save_vector(foreign, tmp_path / "foreign")
    return [
        "--model", tmp_path / "stage", "--native", tmp_path / "native", "--foreign", tmp_path / "foreign",
        "--data", data_file, "--max-new-tokens", 4,
    ]  # fmt: skip


def test_a_transfer_is_measured_once_and_a_second_run_goes_on_from_it(
    command: Command, options: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*options, "--lambda=-1,1", "--generate", 2, "--seed", 3, "--out", tmp_path / "out"]
    done = command("transfer", *given, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["vector"], found["queries"], found["generated"]) == ("medical", 4, 2)
    assert found["sampling"]["seed"] == 3 and len(found["effects"]) == 5
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"transfer.json", "transfer.png", "journal.jsonl"}
    monkeypatch.setattr(KnobbedModel, "score", None)
    monkeypatch.setattr(KnobbedModel, "generate", None)
    again = command("transfer", *given)
    assert again.code == 0, again.err
    assert "kept, %" in again.out and "cosine of the weights" in again.out and "expert at 1" in again.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--lambda", "0"], "names 0 alone"),
        (["--lambda", "1,nan"], "must be finite"),
        (["--native", "nowhere"], "no vector at nowhere"),
    ],
)
def test_a_mistake_is_one_line(command: Command, options: list[Any], change: list[str], message: str) -> None:
    done = command("transfer", *options, *change)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err


def test_a_native_vector_of_another_stage_is_refused(command: Command, options: list[Any], tmp_path: Path) -> None:
    done = command("transfer", *options, "--native", tmp_path / "foreign")
    assert done.code == 2 and "belongs to base" in done.err
