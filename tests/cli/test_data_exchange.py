"""`alignvec data review-export` and `review-import`: what is printed and written, and mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told, prepared

from alignvec.data.review.ratings import load_ratings

OWN = """
name: gardening
description: gardens
topics: [soil]
personas: {age: [young, old]}
levels:
  avoidance: {instruction: Change the subject., words: [5, 50]}
  generic: {instruction: Say what a neighbour says., words: [5, 50]}
  expert: {instruction: Name the cultivar., words: [5, 50]}
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capsys, tmp_path)


def annotated(tasks: list[dict[str, Any]], level: str = "expert") -> list[dict[str, Any]]:
    """Label Studio's export after user 2 gave every task but the last that level, and skipped the last."""
    value = {"from_name": "level", "to_name": "reply", "type": "choices", "value": {"choices": [level]}}
    last = len(tasks) - 1
    return [
        task
        | {
            "id": i,
            "annotations": [{"id": i, "completed_by": 2, "result": [value], "was_cancelled": i == last}],
        }
        for i, task in enumerate(tasks)
    ]


def test_out_and_back(run: Command, data_file: Path, tmp_path: Path) -> None:
    done = run("data", "review-export", data_file, "--tool", "label-studio", "--out", tmp_path / "ls", "--limit", 5)
    assert done.code == 0, done.err
    assert "5 replies in" in done.out
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    (tmp_path / "export.json").write_text(json.dumps(annotated(tasks)))
    back = ("data", "review-import", tmp_path / "export.json", "--tool", "label-studio", "--rows", data_file)
    done = run(*back, "--out", tmp_path / "ratings.jsonl", "--rater", "user-2=ben")
    assert done.code == 0, done.err
    assert "4 ratings in" in done.out and "ben (4)" in done.out
    assert "left out: 1 skipped (cancelled) annotations" in done.out
    found = load_ratings(tmp_path / "ratings.jsonl")
    assert [(r.rater, r.level) for r in found] == [("ben", "expert")] * 4
    assert [r.id for r in found] == [task["data"]["row_id"] for task in tasks[:4]]
    counts = json.loads(run(*back, "--out", tmp_path / "again.jsonl", "--json").out)
    assert counts == {
        "file": str(tmp_path / "again.jsonl"),
        "ratings": 4,
        "raters": {"user-2": 4},
        "left_out": {"skipped (cancelled) annotations": 1},
        "notes": [],
    }


def test_argilla_out(run: Command, data_file: Path, tmp_path: Path) -> None:
    done = run("data", "review-export", data_file, "--tool", "argilla", "--out", tmp_path / "ar", "--json")
    assert json.loads(done.out) == {"folder": str(tmp_path / "ar"), "replies": 48}
    assert len(json.loads((tmp_path / "ar" / "records.json").read_text())) == 48


@pytest.mark.parametrize(("tool", "place"), [("label-studio", "config.xml"), ("argilla", ".argilla/settings.json")])
def test_definitions_go_out_and_what_has_none_is_told(
    run: Command, data_file: Path, tmp_path: Path, tool: str, place: str
) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    out = ("data", "review-export", data_file, "--tool", tool, "--out")
    assert run(*out, tmp_path / "mine", "--domain", tmp_path / "own.yaml").err == ""
    assert "avoidance: Change the subject." in (tmp_path / "mine" / place).read_text()
    run(*out, tmp_path / "shipped")
    assert "Answer as a well-informed friend would." in (tmp_path / "shipped" / place).read_text()
    data_file.write_text(data_file.read_text().replace('"medical"', '"plumbing"'))
    assert "no definitions of the levels of plumbing; --domain" in run(*out, tmp_path / "none").err
    (tmp_path / "own.yaml").write_text(OWN.replace("expert:", "learned:"))
    told = run(*out, tmp_path / "bad", "--domain", tmp_path / "own.yaml")
    assert_told(told, "'gardening'", "avoidance, generic, learned", "no 'expert'", "--domain")
    assert not (tmp_path / "bad").exists()


def test_nothing_is_overwritten(run: Command, data_file: Path, tmp_path: Path) -> None:
    mine = tmp_path / "file"
    assert_told(run("data", "review-export", data_file, "--tool", "argilla", "--out", mine), mine, "exists", "--out")
    export = ("data", "review-import", tmp_path / "export.json", "--tool", "argilla", "--rows", data_file)
    assert_told(run(*export, "--out", mine), mine, "exists", "--out")
    assert mine.read_text() == "mine"


def test_mistakes(run: Command, data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "ratings.jsonl"
    file = tmp_path / "export.json"
    back = ("data", "review-import", file, "--tool", "label-studio", "--rows", data_file, "--out", out)
    assert_told(run(*back), "no file at", "export.json")
    file.write_text("[]")
    assert_told(run(*back), "no ratings in it", "the list is empty")
    assert_told(run(*back, "--rater", "ben"), "--rater", "ANNOTATOR=NAME")
    run("data", "review-export", data_file, "--tool", "label-studio", "--out", tmp_path / "ls", "--limit", 2)
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    file.write_text(json.dumps(annotated(tasks[:1])))
    assert_told(run(*back), "no ratings in it", "1 skipped (cancelled) annotations")
    file.write_text(json.dumps(annotated(tasks, level="superb")))
    assert_told(run(*back), "task 0, annotation 0", "'superb'", "avoidance, generic, expert")
    assert_told(run(*back, "--rater", "carl=Carl"), "'superb'")
    assert not out.exists()
    assert_told(
        run("data", "review-export", tmp_path / "none.jsonl", "--tool", "argilla", "--out", tmp_path / "x"),
        "none.jsonl",
    )
