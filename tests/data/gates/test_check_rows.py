"""The gates over a file: counts, faults and clean rows against faults that were put in by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.built import built_domain
from alignvec.data.domain import load_domain
from alignvec.data.gates.check import check_rows
from alignvec.data.gates.report import Fault
from alignvec.data.load import shipped_file
from alignvec.data.preference_sets import import_pairs
from alignvec.data.synthesis.plan import keep_plan
from alignvec.data.synthesis.prompts import load_prompts
from alignvec.data.synthesis.settings import BuildSettings
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


LEFT_OUT = ("persona leakage", "query leakage", "reply length", "reply refusal", "reply leakage")


def test_rows_of_no_known_domain_pass_by_the_gates_that_need_one(tmp_path: Path, records: list[Record]) -> None:
    for record in records:
        record["domain"] = "veterinary"
    ids = [record["id"] for record in records]
    records[0]["responses"]["generic"] = "Rest."
    records[0]["responses"]["expert"] = "I'm sorry, but I can't help with that."
    records[1]["responses"]["expert"] = "Mail me at jane@example.org about it, any day."
    records[2]["query"] = "Ich habe seit einer Woche Kopfschmerzen und weiß nicht, was ich tun soll."
    records[3]["persona"] = "Nurse"
    records[5]["query"] = records[4]["query"]
    records[6]["persona"] = records[4]["persona"]
    records[7]["responses"]["generic"] = records[7]["responses"]["expert"]
    path = written(tmp_path / "rows.jsonl", records)
    report = check_rows(path, rejected=tmp_path / "rejected.jsonl")
    assert found(tmp_path / "rejected.jsonl") == [
        (ids[1], "reply", "expert", "personal-data"),
        (ids[2], "query", None, "language"),
        (ids[3], "persona", None, "length"),
        (ids[5], "query", None, "near-duplicate"),
        (ids[6], "row", None, "split-leak"),
        (ids[7], "row", "expert", "same-reply"),
    ]
    assert (report.of_no_domain, report.left_out) == (8, LEFT_OUT)
    checked = {f"{count.stage} {count.gate}": count.checked for count in report.gates}
    assert {gate for gate, texts in checked.items() if texts == 0} == set(LEFT_OUT)
    assert checked["reply loop"] == 24
    named = check_rows(path, domain="medical")
    assert (named.of_no_domain, named.left_out, named.clean) == (0, (), 1)


def test_a_build_tells_the_domain_of_its_rows(tmp_path: Path, records: list[Record]) -> None:
    for record in records:
        record["domain"] = "veterinary"
    records[0]["responses"]["expert"] = "Rest."
    path = written(tmp_path / "rows.jsonl", records)
    medical = load_domain("medical").model_dump(mode="json")
    own = {"domain.name": "veterinary", "domain.description": "pets", "domain.language": "en"}
    plan = {
        "personas": {**own, "teacher": "t", "domain.personas": medical["personas"], "domain.keywords": []},
        "queries": {**own, "domain.topics": medical["topics"]},
        "rows": {**own, "seed": 0, "domain.levels": medical["levels"]},
    }
    for there in (plan, {"rows": plan["rows"]}):
        (tmp_path / "build.json").write_text(json.dumps(there))
        report = check_rows(path, rejected=tmp_path / "rejected.jsonl")
        assert (report.of_no_domain, report.left_out, report.clean) == (0, (), 7)
        assert found(tmp_path / "rejected.jsonl") == [(records[0]["id"], "reply", "expert", "length")]
    for other in ('{"personas": {}}', "[]"):
        (tmp_path / "build.json").write_text(other)
        assert check_rows(path).of_no_domain == 8
    for spoilt in ("{", '{"rows": {"domain.name": "veterinary"}}', '{"rows": 1}'):
        (tmp_path / "build.json").write_text(spoilt)
        with pytest.raises(DataError, match=r"build\.json does not say what the rows were made for .*--domain"):
            check_rows(path)
    (tmp_path / "build.json").write_text(json.dumps(plan))
    assert check_rows(written(path, [{**records[1], "domain": "other"}])).of_no_domain == 1


def test_the_settings_that_a_build_keeps_make_its_domain(tmp_path: Path) -> None:
    domain = load_domain("legal")
    prompts = load_prompts()
    settings = BuildSettings(domain=domain, prompts=prompts, teacher="t", judge=None)
    keep_plan(tmp_path, settings, ("personas", "queries", "rows"), None)
    assert built_domain(tmp_path) == domain


@pytest.mark.parametrize("domain", ["imported", "medical"])
def test_imported_pairs_are_checked_and_their_askers_are_no_personas(tmp_path: Path, domain: str) -> None:
    questions = ["Why does the moon pull on the sea?", "How do I keep a lemon tree alive in winter?", "Why? Oh why?"]
    good = "The water follows the pull, as far as the shore allows."
    pairs = [{"prompt": question, "chosen": good, "rejected": "No."} for question in questions]
    import_pairs(
        written(tmp_path / "p.jsonl", pairs), tmp_path / "rows.jsonl", tmp_path / "rejected.jsonl", domain=domain
    )
    report = check_rows(tmp_path / "rows.jsonl", rejected=tmp_path / "faults.jsonl")
    assert [(stage, gate) for _, stage, _, gate in found(tmp_path / "faults.jsonl")] == [("query", "length")]
    assert (report.rows, report.clean, report.of_no_domain) == (3, 2, 3)
    assert report.left_out == LEFT_OUT[1:]
    assert {count.checked for count in report.gates if count.stage == "persona"} == {0}


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
