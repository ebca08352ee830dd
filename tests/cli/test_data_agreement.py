"""`alignvec data agreement`: what is printed, JSON, the disputes file, and mistakes."""

import json
from pathlib import Path

import pytest
from running import Command, assert_told, prepared

from alignvec.data.load import SHIPPED

SHIPPED_RATINGS = SHIPPED / "ratings.jsonl"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capsys, tmp_path)


def line(rater: str, row: int, shown: str, level: str | None, flag: str | None = None) -> str:
    return json.dumps({"rater": rater, "id": f"medical-{row}", "shown_level": shown, "level": level, "flag": flag})


def test_shipped_ratings_are_of_models(run: Command) -> None:
    done = run("data", "agreement", SHIPPED_RATINGS)
    assert done.code == 0, done.err
    assert "model raters, not humans: model-rater-1, model-rater-2" in done.out
    assert "model-rater-1 x model-rater-2: kappa 1.00; same level 1.00 [0.95, 1.00]; 72 replies" in done.out
    assert "at most 5.0%" in done.out
    assert "0.84" not in done.out
    assert done.out.count("human") == 1


def test_json_and_disputes(run: Command, data_file: Path, tmp_path: Path) -> None:
    ratings = tmp_path / "anna.jsonl"
    ratings.write_text(line("anna", 0, "generic", "expert") + "\n" + line("anna", 1, "expert", "expert") + "\n")
    more = tmp_path / "ben.jsonl"
    more.write_text(line("ben", 0, "generic", "generic") + "\n" + line("ben", 1, "expert", None, "unsafe") + "\n")
    file = tmp_path / "out" / "disputes.jsonl"
    done = run("data", "agreement", ratings, more, "--rows", data_file, "--disputes", file, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["pairs"][0]["agreement"]["replies"] == 1
    assert found["pairs"][0]["left_out"] == 1
    assert found["pairs"][0]["agreement"]["kappa"]["value"] == 0.0
    assert found["flags"] == {"anna": {}, "ben": {"unsafe": 1}}
    written = [json.loads(text) for text in file.read_text().splitlines()]
    assert written == found["disputes"]
    assert [(d["id"], d["why"]) for d in written] == [("medical-0", ["raters differ"]), ("medical-1", ["flagged"])]
    assert written[0]["reply"] == "Keep regular hours, skip late coffee and dim the lights, number 0."


def test_undefined_kappa_is_null(run: Command, tmp_path: Path) -> None:
    ratings = tmp_path / "r.jsonl"
    ratings.write_text("".join(line(who, i, "expert", "expert") + "\n" for who in ("anna", "ben") for i in range(4)))
    found = json.loads(run("data", "agreement", ratings, "--json").out)
    assert found["pairs"][0]["agreement"]["kappa"]["value"] is None
    assert "undefined" in found["pairs"][0]["agreement"]["kappa"]["note"]
    assert "anna x ben: kappa missing" in run("data", "agreement", ratings).out


def test_one_rater(run: Command, tmp_path: Path) -> None:
    ratings = tmp_path / "r.jsonl"
    ratings.write_text(line("anna", 0, "expert", "expert") + "\n" + line("anna", 1, "generic", "expert") + "\n")
    done = run("data", "agreement", ratings)
    assert "kappa between raters needs two" in done.out
    assert "anna x intended: kappa 0.00" in done.out
    assert "human" not in done.out


def test_many_disputes_are_cut_short_with_a_word(run: Command, tmp_path: Path) -> None:
    ratings = tmp_path / "r.jsonl"
    ratings.write_text("".join(line("anna", i, "expert", "generic") + "\n" for i in range(25)))
    assert "... and 5 more; --disputes FILE.jsonl writes all of them" in run("data", "agreement", ratings).out


def test_repeated_ratings_are_counted(run: Command, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(line("anna", 0, "expert", "generic") + "\n")
    (tmp_path / "b.jsonl").write_text(line("anna", 0, "expert", "expert") + "\n")
    done = run("data", "agreement", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert "1 ratings replaced" in done.err
    assert "replies in dispute: 0" in done.out


def test_a_level_that_no_row_has_is_named(run: Command, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(line("anna", 0, "expert", "expret") + "\n" + line("anna", 1, "expert", "generic"))
    noted = [text for text in run("data", "agreement", tmp_path / "r.jsonl").err.splitlines() if "note:" in text]
    assert len(noted) == 1 and "'generic', 'expret', which no rated reply was written for" in noted[0]
    with_rows = run("data", "agreement", tmp_path / "r.jsonl", "--rows", data_file, "--json")
    assert "raters chose 'expret', which no row has" in with_rows.err
    assert json.loads(with_rows.out)["unknown_levels"] == ["expret"]
    (tmp_path / "r.jsonl").write_text(line("anna", 0, "expert", "generic") + "\n")
    assert run("data", "agreement", tmp_path / "r.jsonl", "--rows", data_file).err == ""


def test_mistakes(run: Command, tmp_path: Path, data_file: Path) -> None:
    assert_told(run("data", "agreement", tmp_path / "none.jsonl"), "none.jsonl", "alignvec data review")
    (tmp_path / "bad.jsonl").write_text('{"rater": "anna"}\n')
    assert_told(run("data", "agreement", tmp_path / "bad.jsonl"), "bad.jsonl:1", "id")
    (tmp_path / "empty.jsonl").write_text("")
    assert_told(run("data", "agreement", tmp_path / "empty.jsonl"), "empty.jsonl", "no ratings")
    assert_told(run("data", "agreement", SHIPPED_RATINGS, "--rows", data_file), "--rows", "was rated")
    blocked = run("data", "agreement", SHIPPED_RATINGS, "--disputes", tmp_path / "file" / "x.jsonl")
    assert_told(blocked, "cannot write", "a file is in the way")
