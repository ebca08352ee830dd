"""`alignvec capability` on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told

from alignvec.steer.model import KnobbedModel
from alignvec.vectors.store import save_vector

NAMES = ("perplexity", "answers", "letters", "followed")


@pytest.fixture
def options(make_vector: Any, tiny_folder: Path, tmp_path: Path) -> list[Any]:
    save_vector(make_vector("medical", scale=0.3), tmp_path / "medical")
    (tmp_path / "text.txt").write_text("It rained all day, and nobody came to the market. " * 20)
    small: list[Any] = ["--limit", 4, "--max-new-tokens", 4, "--text", tmp_path / "text.txt"]
    return [tmp_path / "medical", "--model", tiny_folder, *small]


def test_a_knob_is_measured_against_the_base_once_and_goes_on_from_its_journal(
    command: Command, options: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*options, "--lambda=-1,1", "--out", tmp_path / "out"]
    done = command("capability", *given, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["text"], found["questions"], found["instructions"]) == (3, 4, 4)
    assert [cost["knobs"] for cost in found["curve"]] == [{"medical": -1.0}, {}, {"medical": 1.0}]
    base = found["curve"][1]
    assert base["perplexity"]["change"]["value"] == 1.0
    assert all(base[name]["change"]["value"] == 0.0 for name in NAMES[1:])
    assert all(0 <= cost[name]["value"]["value"] <= 1 for cost in found["curve"] for name in NAMES[1:])
    assert len({cost["perplexity"]["value"]["value"] for cost in found["curve"]}) == 3
    files = {"capability.json", "capability.png", "replies.jsonl", "journal.jsonl"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert (tmp_path / "out" / "capability.png").read_bytes()[:4] == b"\x89PNG"
    assert len((tmp_path / "out" / "replies.jsonl").read_text().splitlines()) == 12
    monkeypatch.setattr(KnobbedModel, "score", None)
    monkeypatch.setattr(KnobbedModel, "generate", None)
    again = command("capability", *given)
    assert again.code == 0, again.err
    assert max(map(len, again.out.splitlines()[:10])) <= 80 and "…" not in again.out
    assert all(name in again.out for name in NAMES) and "against the base" in again.out
    other = command("capability", *given, "--seed", 1)
    assert_told(other, "holds results of other vectors, data or settings")


def test_without_a_text_the_shipped_replies_are_scored_and_too_long_for_the_tiny_model(
    command: Command, options: list[Any]
) -> None:
    small = [*options[:3], "--limit", 1, "--max-new-tokens", 2, "--lambda=1", "--split", "validation"]
    cut = command("capability", *small)  # the tiny model has 512 positions and a token a byte
    assert_told(cut, "more than the 512 allowed")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--lambda=1,x"], "cannot read λ values"),
        (["--split", "train"], "no items with split=train"),
        (["--text", "none.txt"], "none.txt"),
        (["--questions", "none.jsonl"], "no file at none.jsonl"),
    ],
)
def test_bad_input_is_one_line(command: Command, options: list[Any], wrong: list[str], told: str) -> None:
    assert_told(command("capability", *options, *wrong), told)
