"""`alignvec data check`: the table, the JSON, the files, and one line for a user's mistake."""

import json
from pathlib import Path

import pytest
from running import Command, assert_told, prepared

from alignvec.data.load import shipped_file


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("COLUMNS", "120")
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three shipped legal rows; the second has a refusal for an expert reply."""
    records = [json.loads(line) for line in shipped_file("legal").read_text(encoding="utf-8").splitlines()[:3]]
    records[1]["responses"]["expert"] = "As an AI, I cannot advise on this. " + records[1]["responses"]["expert"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_the_table_counts_and_the_files_hold_the_rows(command: Command, rows: Path, tmp_path: Path) -> None:
    done = command("data", "check", rows, "--rejected", tmp_path / "bad.jsonl", "--out", tmp_path / "kept.jsonl")
    assert done.code == 0, done
    lines = [line.split() for line in done.out.splitlines()]
    assert ["reply", "refusal", "9", "1", "legal-a-0002"] in lines
    assert ["query", "near-duplicate", "3", "0"] in lines
    assert "0 of 3 personas leak from one split into another" in done.out
    assert "2 of 3 rows are without a fault" in done.out
    (fault,) = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (fault["id"], fault["level"], fault["gate"]) == ("legal-a-0002", "expert", "refusal")
    kept = [json.loads(line)["id"] for line in (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()]
    assert kept == ["legal-a-0001", "legal-a-0003"]


def test_json_holds_every_gate(command: Command, rows: Path) -> None:
    done = command("data", "check", rows, "--json", "--limit", 2)
    report = json.loads(done.out)
    assert (done.code, report["rows"], report["clean"], report["leaks"]["faults"]) == (0, 2, 1, 0)
    assert {(gate["stage"], gate["gate"]): gate["faults"] for gate in report["gates"]}["reply", "refusal"] == 1


def test_bad_input_is_told_in_one_line(command: Command, rows: Path, tmp_path: Path) -> None:
    assert_told(command("data", "check", tmp_path / "none.jsonl"), "no data file", "none.jsonl")
    assert_told(command("data", "check", rows, "--domain", "cooking"), "no domain named 'cooking'", "medical")
    assert_told(command("data", "check", rows, "--out", rows), "a file each")
    (tmp_path / "broken.jsonl").write_text('{"id": 1}\n')
    assert_told(command("data", "check", tmp_path / "broken.jsonl"), "broken.jsonl:1")
    assert_told(command("data", "check", rows, "--rejected", tmp_path / "file" / "bad.jsonl"), "cannot write")


def test_rows_of_no_known_domain_are_checked_without_what_needs_one(command: Command) -> None:
    done = command("data", "check", shipped_file("general"), "--limit", 3)
    assert (done.code, done.errors) == (0, [])
    (told,) = [line for line in done.out.splitlines() if "left out" in line]
    assert told.startswith("3 of 3 rows are of no known domain")
    assert "reply refusal" in told
    assert "--domain" in told
    assert "persona empty" not in told
    report = json.loads(command("data", "check", shipped_file("general"), "--limit", 3, "--json").out)
    assert (report["of_no_domain"], "reply length" in report["left_out"]) == (3, True)


def test_a_byte_order_mark_is_no_matter(command: Command, rows: Path) -> None:
    rows.write_bytes(b"\xef\xbb\xbf" + rows.read_bytes())
    done = command("data", "check", rows, "--json")
    assert (done.code, json.loads(done.out)["rows"]) == (0, 3), done
