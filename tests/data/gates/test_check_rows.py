"""The gates over a file: counts, faults and clean rows against faults that were put in by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.gates.check import check_rows
from alignvec.data.gates.report import Fault
from alignvec.data.load import shipped_file
from alignvec.errors import ConfigError, DataError

Record = dict[str, Any]


@pytest.fixture
def records() -> list[Record]:
    """Eight shipped rows: six of the training split, then two of the test split."""
    rows = [json.loads(line) for line in shipped_file("medical").read_text(encoding="utf-8").splitlines()]
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    return train[:6] + test[:2]


def written(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def found(path: Path) -> list[tuple[str, str, str | None, str]]:
    faults = [Fault.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(fault.id, fault.stage, fault.level, fault.gate) for fault in faults]


def test_shipped_rows_are_clean(tmp_path: Path) -> None:
    report = check_rows(shipped_file("medical"), out=tmp_path / "kept.jsonl", rejected=tmp_path / "rejected.jsonl")
    assert (report.rows, report.clean, report.leaks.faults) == (200, 200, 0)
    assert {count.stage: count.checked for count in report.gates} == {
        "persona": 200,
        "query": 200,
        "reply": 600,
        "row": 200,
    }
    assert sum(count.faults for count in report.gates) == 0
    assert (tmp_path / "rejected.jsonl").read_text() == ""
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()]
    assert kept == [json.loads(line) for line in shipped_file("medical").read_text(encoding="utf-8").splitlines()]


def test_every_fault_is_counted_written_and_kept_out(tmp_path: Path, records: list[Record]) -> None:
    ids = [record["id"] for record in records]
    records[0]["responses"]["expert"] = "I'm sorry, but I can't help with that. " + records[0]["responses"]["expert"]
    records[0]["responses"]["generic"] = "Rest."
    records[1]["query"] = records[1]["query"] + " Mail me at jane@example.org."
    records[2]["persona"] = "Nurse"
    records[4]["query"] = records[3]["query"].upper()
    records[5]["responses"]["generic"] = records[5]["responses"]["expert"] + " "
    records[6]["persona"] = records[3]["persona"] + " Yes."
    path = written(tmp_path / "rows.jsonl", records)
    report = check_rows(path, out=tmp_path / "kept.jsonl", rejected=tmp_path / "rejected.jsonl")
    assert found(tmp_path / "rejected.jsonl") == [
        (ids[0], "reply", "generic", "length"),
        (ids[0], "reply", "expert", "refusal"),
        (ids[1], "query", None, "personal-data"),
        (ids[2], "persona", None, "length"),
        (ids[4], "query", None, "near-duplicate"),
        (ids[5], "row", "expert", "same-reply"),
        (ids[6], "row", None, "split-leak"),
    ]
    counted = {(count.stage, count.gate): (count.faults, count.example) for count in report.gates if count.faults}
    assert counted == {
        ("reply", "length"): (1, ids[0]),
        ("reply", "refusal"): (1, ids[0]),
        ("query", "personal-data"): (1, ids[1]),
        ("persona", "length"): (1, ids[2]),
        ("query", "near-duplicate"): (1, ids[4]),
        ("row", "same-reply"): (1, ids[5]),
    }
    assert (report.leaks.faults, report.leaks.example) == (1, ids[6])
    assert (report.rows, report.clean) == (8, 2)
    kept = [json.loads(line)["id"] for line in (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()]
    assert kept == [ids[3], ids[7]]
    line = json.loads((tmp_path / "rejected.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line.keys() == {"stage", "id", "level", "gate", "reason", "text", "row"}
    assert (line["reason"], line["text"], line["row"]) == ("1 words, not 40 to 140", "Rest.", records[0])


def test_a_persona_may_ask_twice_in_its_split_and_a_rejected_row_starts_no_duplicates(
    tmp_path: Path, records: list[Record]
) -> None:
    assert records[0]["persona"] == records[1]["persona"]
    records[0]["responses"]["generic"] = "Rest."
    records[1]["query"] = records[0]["query"]
    report = check_rows(written(tmp_path / "rows.jsonl", records))
    assert (report.rows, report.clean, report.leaks.faults) == (8, 7, 0)


def test_a_limit_checks_the_first_rows_and_progress_is_told(tmp_path: Path, records: list[Record]) -> None:
    path, told = written(tmp_path / "rows.jsonl", records), []
    assert check_rows(path, limit=3, advance=lambda *step: told.append(step)).rows == 3
    assert told == [("check rows", 1, 3)] * 3


def test_a_domain_can_be_named_and_is_needed_for_rows_without_one(tmp_path: Path, records: list[Record]) -> None:
    for record in records:
        record["domain"] = "veterinary"
    path = written(tmp_path / "rows.jsonl", records)
    with pytest.raises(DataError, match="is of domain 'veterinary', which has no valid domain file; .*--domain"):
        check_rows(path, rejected=tmp_path / "rejected.jsonl")
    assert not (tmp_path / "rejected.jsonl").exists()
    assert check_rows(path, domain="medical").clean == 8


def test_a_level_that_the_domain_lacks_is_named(tmp_path: Path, records: list[Record]) -> None:
    records[0]["responses"]["curt"] = "No."
    with pytest.raises(DataError, match=r"at level 'curt', which domain 'medical' does not have \(it has avoidance"):
        check_rows(written(tmp_path / "rows.jsonl", records))


@pytest.mark.parametrize("same", ["rows.jsonl", "../{folder}/rows.jsonl"])
def test_no_file_is_written_over_another_of_the_three(tmp_path: Path, records: list[Record], same: str) -> None:
    path = written(tmp_path / "rows.jsonl", records)
    before = path.read_bytes()
    place = tmp_path / same.format(folder=tmp_path.name)
    with pytest.raises(ConfigError, match="a file each"):
        check_rows(path, out=place)
    with pytest.raises(ConfigError, match="a file each"):
        check_rows(path, out=tmp_path / "x", rejected=tmp_path / "x")
    assert path.read_bytes() == before
