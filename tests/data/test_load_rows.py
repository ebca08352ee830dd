"""Reading preference data: what is refused, and that every complaint names the file and the line."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.load import levels_of, load_rows, shipped_file
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError


def record(number: int = 1, **changes: Any) -> dict[str, Any]:
    fields = {
        "id": f"row-{number}",
        "split": "train",
        "domain": "medical",
        "topic": "sleep",
        "persona": f"persona {number}",
        "query": "How do I sleep?",
        "responses": {"avoidance": "Ask a nurse.", "generic": "Go to bed early.", "expert": "Try CBT-I."},
    }
    return {**fields, **changes}


def write(path: Path, *records: dict[str, Any] | str) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def complaint(path: Path, **selection: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_rows(path, **selection)
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    ['{"id": "row-2", ', "not json", "{'id': 1}", '{"id": ' + "1" * 5000 + "}"],
    ids=["cut off", "text", "python", "huge integer"],
)
def test_malformed_json_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), line, record(3))
    assert complaint(path).startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"weight": 1}, "weight"),
        ({"responses": {"expert": "Try CBT-I."}}, "two levels"),
        ({"responses": {"avoidance": "  ", "expert": "Try CBT-I."}}, "responses.avoidance"),
        ({"responses": {"avoidance": None, "expert": "Try CBT-I."}}, "responses.avoidance"),
        ({"split": "dev"}, "split"),
        ({"query": ""}, "query"),
    ],
    ids=["unknown key", "one level", "blank reply", "null reply", "unknown split", "empty query"],
)
def test_a_bad_field_is_refused_by_line_and_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), record(2, **changes))
    assert complaint(path).startswith(f"{path}:2: ")
    assert named in complaint(path)


@pytest.mark.parametrize("field", sorted(record()))
def test_a_missing_field_is_refused_by_name(tmp_path: Path, field: str) -> None:
    path = write(tmp_path / "rows.jsonl", {k: v for k, v in record().items() if k != field})
    assert complaint(path).startswith(f"{path}:1: {field}: ")


def test_blank_lines_are_skipped_and_still_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), "", "   ", record(2), "[]")
    assert complaint(path).startswith(f"{path}:5: ")


def test_an_id_used_twice_names_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), record(2), record(1))
    assert complaint(path).startswith(f"{path}:3: id 'row-1' was used on line 1")


def test_a_persona_in_two_splits_names_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), record(2, persona="persona 1", split="test"))
    assert f"{path}:2: this persona is in split 'test' here and 'train' on line 1" in complaint(path)


def test_every_row_is_checked_before_any_is_selected(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), record(2), "broken")
    assert complaint(path, split="train", limit=1).startswith(f"{path}:3: ")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "the file is empty" in complaint(write(tmp_path / "rows.jsonl", "", " "))


def test_an_empty_split_lists_the_splits_there(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), record(2, split="validation"))
    assert "no rows with split=test (splits there: train, validation)" in complaint(path, split="test")


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(record(query="Où dormir ?"), ensure_ascii=False).encode("latin-1"))
    assert str(path) in complaint(path)
    assert "UTF-8" in complaint(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.jsonl") == f"no data file at {tmp_path / 'none.jsonl'}; check --data"
    assert complaint(tmp_path) == f"{tmp_path} is a folder; name a file of rows in it (.jsonl)"
    write(tmp_path / "rows.jsonl", record(1))
    assert complaint(tmp_path) == f"{tmp_path} is a folder; name {tmp_path / 'rows.jsonl'}"


def test_pairs_that_are_no_rows_yet_are_sent_to_import(tmp_path: Path) -> None:
    pair = {"prompt": "Why?", "chosen": "a", "rejected": "b"}
    path = write(tmp_path / "pairs.jsonl", pair)
    assert f"{path}:1: " in complaint(path)
    assert f"`alignvec data import {path} --out rows.jsonl`" in complaint(path)
    assert "data import" not in complaint(write(path, record(1, chosen="a", rejected="b")))
    assert "data import" not in complaint(write(path, {"prompt": "Why?", "chosen": "a"}))


def test_a_complaint_is_in_words_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1, responses={"expert": "x"}))
    assert complaint(path).startswith(f"{path}:1: responses: needs replies at two levels or more;")


def test_the_limit_keeps_the_first_rows_of_the_selection(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1, split="test"), *(record(i) for i in range(2, 6)))
    assert [row.id for row in load_rows(path, split="train", limit=2)] == ["row-2", "row-3"]
    assert len(load_rows(path, limit=99)) == 5
    assert "--limit 0" in complaint(path, limit=0)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\u000b"])
def test_a_unicode_line_separator_inside_a_string_ends_no_line(tmp_path: Path, separator: str) -> None:
    text = f"First{separator}second"
    line = json.dumps(record(query=text), ensure_ascii=separator == "\u000b")
    assert [row.query for row in load_rows(write(tmp_path / "rows.jsonl", line))] == [text]


def test_windows_line_ends_read_as_others(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(json.dumps(record(i)).encode() + b"\r\n" for i in range(2)))
    assert [row.id for row in load_rows(path)] == ["row-0", "row-1"]


def row(*levels: str, number: int = 1) -> PreferenceRow:
    return PreferenceRow.model_validate(record(number, responses=dict.fromkeys(levels, "text")))


def test_known_levels_come_in_their_order_and_new_ones_as_written() -> None:
    assert levels_of([row("expert", "terse", "avoidance", "chatty", "generic")]) == (
        *("avoidance", "generic", "expert"),
        *("terse", "chatty"),
    )
    assert levels_of([row("b", "a"), row("a", "b", number=2)]) == ("b", "a")


def test_a_row_with_other_levels_is_refused_by_id() -> None:
    with pytest.raises(DataError, match="row row-2 has levels expert, generic but row row-1 has expert, avoidance"):
        levels_of([row("expert", "avoidance"), row("expert", "generic", number=2)])


def test_an_unknown_domain_lists_the_shipped_ones() -> None:
    with pytest.raises(DataError, match=r"domain 'tax' \(have: financial, general, legal, medical, safety\)"):
        shipped_file("tax")


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), record(2))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row.id for row in load_rows(path)] == ["row-1", "row-2"]


def test_broken_json_is_told_with_its_column(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", record(1), '{"id": x}')
    assert complaint(path) == f"{path}:2: the line: Invalid JSON: expected value at column 8; mend the line"
