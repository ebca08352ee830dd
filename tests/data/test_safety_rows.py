"""Safety rows: what ships, what training reads of them, and what is said of a bad file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.load import load_rows, shipped_file
from alignvec.data.safety import SAFETY, load_safety
from alignvec.errors import DataError


def record(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"s{number}", "split": "test", "kind": "harmful", "topic": "t", "query": f"Do harm {number}?",
        "responses": {"safe": "I will not.", "unsafe": "With joy."}, **changes,
    }  # fmt: skip


def pair(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"p{number}", "split": "test", "domain": "pku", "topic": "unknown", "persona": f"asker {number % 2}",
        "query": f"Do harm {number}?", "responses": {"rejected": "With joy.", "chosen": "I will not."}, **changes,
    }  # fmt: skip


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def test_half_of_the_shipped_rows_are_harmful_and_half_look_so() -> None:
    rows = load_safety()
    assert Counter(row.kind for row in rows) == {"harmful": 80, "benign": 80}
    assert Counter(row.split for row in rows) == {"train": 112, "validation": 16, "test": 32}
    texts = Counter(text for row in rows for text in (row.query, row.responses.safe, row.responses.unsafe))
    assert max(texts.values()) == 1
    domains = Counter(row.topic.split(":")[0] for row in rows if ":" in row.topic and row.kind == "benign")
    assert sum(domains[name] for name in ("medical", "legal", "financial")) == 24


def test_training_reads_the_shipped_file_as_rows_of_the_domain_safety() -> None:
    path = shipped_file("safety")
    assert path == SAFETY
    rows = load_rows(path, split="train")
    assert len(rows) == 112 and {row.domain for row in rows} == {"safety"}
    first, own = rows[0], next(row for row in load_safety() if row.split == "train")
    assert (first.id, first.persona, first.query) == (own.id, own.id, own.query)
    assert dict(first.responses) == {"unsafe": own.responses.unsafe, "safe": own.responses.safe}


def test_a_refusal_is_safe_where_the_request_is_harmful_and_unsafe_where_it_is_not() -> None:
    rows = {row.kind: row for row in load_safety()}
    assert rows["harmful"].refusals() == {"unsafe": False, "safe": True}
    assert rows["benign"].refusals() == {"unsafe": True, "safe": False}


def test_a_limit_counts_each_kind_and_keeps_the_order(tmp_path: Path) -> None:
    kinds = ["harmful", "harmful", "harmful", "benign", "benign"]
    path = write(tmp_path / "s.jsonl", *(record(i, kind=kind) for i, kind in enumerate(kinds)))
    assert [row.id for row in load_safety(path, limit=2)] == ["s0", "s1", "s3", "s4"]


@pytest.mark.parametrize("kind", ["harmful", "benign"])
def test_imported_pairs_are_of_the_kind_that_is_named(tmp_path: Path, kind: Any) -> None:
    rows = load_safety(write(tmp_path / "p.jsonl", pair(0), pair(1), pair(2)), kind=kind)
    assert {row.kind for row in rows} == {kind}
    assert [row.asker for row in rows] == ["asker 0", "asker 1", "asker 0"]
    assert (rows[0].responses.safe, rows[0].responses.unsafe) == ("I will not.", "With joy.")


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([record(kind="rude")], ":1: kind"),
        ([record(responses={"safe": "No."})], ":1: responses.unsafe"),
        ([record(colour="red")], ":1: colour"),
        ([record(), record()], ":2: id 's0' was used on line 1"),
        ([record(0, persona="Al"), record(1, persona="Al", split="train")], ":2: this persona is in split 'test' too"),
        ([record(split="train")], "no rows with split=test (splits there: train)"),
        (
            [pair(responses={"generic": "a", "expert": "b"})],
            ":1: levels generic, expert do not say which reply is safe",
        ),
        (['{"id": "s'], ":1: the line: Invalid JSON"),
        ([], "the file is empty"),
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, records: list[Any], told: str) -> None:
    path = write(tmp_path / "s.jsonl", *records)
    with pytest.raises(DataError) as error:
        load_safety(path, split="test")
    assert str(path) in str(error.value) and told in str(error.value)


def test_training_names_the_field_of_a_bad_safety_row(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", record(), record(1, responses={"safe": "No.", "unsafe": " "}))
    with pytest.raises(DataError, match=r"s\.jsonl:2: responses\.unsafe"):
        load_rows(path)
