"""Preference sets in every kind of file, whole, broken or cut short, give their rows or one clear line."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.data.load import load_rows
from alignvec.data.pairs import parse_order, preference_pairs
from alignvec.data.preference_sets import HEAD, import_pairs
from alignvec.errors import DataError
from tests.data.foreign_records import Records, imported, lines, safe_record, ultra_record


def as_jsonl(path: Path, records: Records) -> Path:
    return lines(path.with_suffix(".jsonl"), records)


def as_gz(path: Path, records: Records) -> Path:
    path = path.with_suffix(".jsonl.gz")
    path.write_bytes(
        gzip.compress("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode("utf-8-sig"))
    )
    return path


def as_json(path: Path, records: Records) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps(records, indent=1), encoding="utf-8-sig")
    return path


def as_lines_in_json(path: Path, records: Records) -> Path:
    return lines(path.with_suffix(".json"), records)


def as_csv(path: Path, records: Records) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, records[0])
        writer.writeheader()
        writer.writerows(records)
    return path


def as_parquet(path: Path, records: Records) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


KINDS = (as_jsonl, as_gz, as_json, as_lines_in_json, as_csv, as_parquet)


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, write: Callable[[Path, Records], Path]) -> None:
    # words that a reader of tables takes for numbers, dates or nothing
    odd = ["None", "N/A", "007", "2026-01-01", "true", 'ü, "quoted"\nand broken', "x" * 200_000]
    records = [safe_record(i, response_0=text) for i, text in enumerate(odd)]
    for record in records if write is as_csv else ():
        del record["response_0_harm_category"], record["response_1_harm_category"]
    _, rows, _ = imported(write(tmp_path / "set", records))
    assert [row.responses["chosen"] for row in rows] == odd
    assert {row.query for row in rows} == {f"How do I open lock {i}?" for i in range(len(odd))}


@pytest.mark.parametrize("write", [as_jsonl, as_parquet])
def test_lists_of_messages_are_read_from_parquet_too(tmp_path: Path, write: Callable[[Path, Records], Path]) -> None:
    done, rows, _ = imported(write(tmp_path / "uf", [ultra_record(1)]))
    assert (done.format, rows[0].responses["chosen"]) == ("ultrafeedback", "Rhine, Nile.")


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", [{"question": "Why?", "good": "a", "bad": "b", "prompt": "not this"}])
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    _, rows, _ = imported(path, columns=columns)
    assert (rows[0].query, rows[0].responses["chosen"]) == ("Why?", "a")
    with pytest.raises(DataError, match=r"no column 'gud' to map chosen to \(has: question, good, bad, prompt\)"):
        imported(path, columns={**columns, "chosen": "gud"})
    with pytest.raises(DataError, match="no format has a column 'chosn'"):
        imported(path, columns={"chosn": "good"})


@pytest.mark.parametrize(
    ("format", "complaint"),
    [
        ("auto", r"no format fits its columns \(question, answer\).*--map prompt=COLUMN"),
        ("pairs", r"no column prompt, chosen, rejected, which pairs needs \(has: question, answer\).*--map prompt="),
        ("safe-rlhf", "no column prompt, response_0, response_1, safer_response_id"),
        ("hh-rlhf", "no column chosen, rejected, which hh-rlhf needs"),
    ],
)
def test_missing_columns_are_told_with_the_way_to_map_them(tmp_path: Path, format: Any, complaint: str) -> None:
    path = lines(tmp_path / "mine.jsonl", [{"question": "Why?", "answer": "a"}])
    with pytest.raises(DataError, match=complaint):
        imported(path, format=format)
    assert not (tmp_path / "out").exists()


def test_the_first_records_only(tmp_path: Path) -> None:
    records = [{"prompt": f"Why {i}?", "chosen": "a", "rejected": "b" if i else "a"} for i in range(9)]
    done, rows, rejected = imported(lines(tmp_path / "mine.jsonl", records), limit=4)
    assert (done.read, len(rows), len(rejected)) == (4, 3, 1)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.json", b"[]", "the file is empty"),
        ("a.json", b" ", "the file is empty"),
        ("a.csv", b"prompt,chosen,rejected\n", "the file is empty"),
        ("a.csv", b"", "the file is empty"),
        ("a.jsonl", bytes(range(256)) * 9, "cannot read .* as jsonl"),
        ("a.jsonl", b'{"prompt": "a", "cho', r"a\.jsonl:1: not valid JSON"),
        ("a.jsonl", b'["a"]', r"a\.jsonl:1: not a JSON object with named fields"),
        ("a.jsonl", b'{"a":' + b"[" * 100_000, r"a\.jsonl:1: not (valid|usable) JSON"),
        ("a.json", b'[{"prompt": "a"}, ', "cannot read .* as json"),
        ("a.json", b"[1, 2]", "entry 1 of the list is no object"),
        ("a.json", b"[" * 100_000, "nested too deeply|cannot read"),
        ("a.jsonl.gz", b"no gzip at all", "cannot read .* as jsonl"),
        ("a.parquet", b"", "cannot read .* as parquet"),
        ("a.parquet", b"PAR1" + bytes(200) + b"PAR1", "cannot read .* as parquet"),
        ("a.csv", b'prompt,chosen,rejected\n"a,b,c\n', "cannot read .* as csv"),
        ("a.csv", b"prompt,chosen,rejected\na,b,c,d\n", r"a\.csv:2: more cells than columns"),
        ("a.txt", b"hello", r"unknown kind of file; it must end in one of \.jsonl"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        imported(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def broken_lines(path: Path, good: int, *broken: str) -> Path:
    """The broken lines, a blank one, then good records."""
    records = [{"prompt": f"Why {i}?", "chosen": "a", "rejected": "b"} for i in range(good)]
    text = "".join(line + "\n" for line in [*broken, "", *map(json.dumps, records)])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_broken_lines_are_rejected_with_number_text_and_reason(tmp_path: Path, name: str) -> None:
    broken = ['{"prompt": "a\tb"}', '{"prompt": "a", "cho', '["a"]', '{"a": ' + "1" * 5000 + "}"]
    done, rows, rejected = imported(broken_lines(tmp_path / name, 3, *broken))
    assert [row.query for row in rows] == ["Why 0?", "Why 1?", "Why 2?"]
    assert [(r["number"], r["line"], r["text"]) for r in rejected] == [
        (number, number, text) for number, text in enumerate(broken, start=1)
    ]
    assert [r["reason"] for r in rejected] == [
        *["not valid JSON"] * 2,
        "not a JSON object with named fields",
        "not usable JSON",
    ]
    assert rejected[0]["detail"] == f"Invalid control character at column {broken[0].index(chr(9)) + 1}"
    assert (done.read, done.rows, sum(done.rejected.values())) == (7, 3, 4)
    path = tmp_path / "late.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\nnonsense\r\n")
    assert [(r["number"], r["line"], r["text"]) for r in imported(path)[2]] == [(2, 3, "nonsense")]


def test_a_file_of_broken_lines_is_told_by_its_first(tmp_path: Path) -> None:
    path = broken_lines(tmp_path / "mine.jsonl", 0, '{"a": "b\tc"}', "also")
    with pytest.raises(DataError, match=r"mine\.jsonl:1: not valid JSON \(Invalid control character at column 9\); "):
        imported(path)
    assert imported(broken_lines(path, 1, *["no"] * (HEAD - 1)))[0].rejected == {"not valid JSON": HEAD - 1}
    with pytest.raises(DataError, match=r"mine\.jsonl:1: not valid JSON"):
        imported(broken_lines(path, 1, *["no"] * HEAD))
    one_object = broken_lines(tmp_path / "mine.json", 1, '{"data": [')
    with pytest.raises(DataError, match=r"mine\.json:1: not valid JSON"):
        imported(one_object)


@pytest.mark.parametrize("kind", ["gz", "parquet"])
def test_a_file_that_was_cut_short_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    records = [{"prompt": f"Why {i}?", "chosen": f"{i * 7919}", "rejected": "b"} for i in range(5000)]
    path = (as_gz if kind == "gz" else as_parquet)(tmp_path / "set", records)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rows.jsonl").write_text("mine")
    with pytest.raises(DataError, match="cannot read .*damaged or cut short"):
        imported(path)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["rows.jsonl"]
    assert (tmp_path / "out" / "rows.jsonl").read_text() == "mine"


def test_a_missing_file_no_rows_and_one_file_for_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file at"):
        imported(tmp_path / "none.jsonl")
    path = lines(tmp_path / "mine.jsonl", [{"prompt": "Why?", "chosen": "a", "rejected": "a"}] * 3)
    with pytest.raises(DataError, match="none of its 3 records makes a row .3 chosen and rejected are the same.;"):
        imported(path)
    with pytest.raises(DataError, match="must be three files"):
        import_pairs(path, path, tmp_path / "rejected.jsonl")


VALUE = st.one_of(st.none(), st.integers(), st.text(max_size=4), st.sampled_from(["a", "b", "\ud800"]))
RECORD = st.fixed_dictionaries({}, optional={"prompt": VALUE, "chosen": VALUE, "rejected": VALUE})
GOOD = {"prompt": "Why?", "chosen": "yes", "rejected": "no"}


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORD, max_size=12))
def test_every_record_is_a_row_or_rejected(tmp_path_factory: pytest.TempPathFactory, others: Records) -> None:
    records = [GOOD, *others]
    done, rows, rejected = imported(lines(tmp_path_factory.mktemp("p") / "set.jsonl", records), format="pairs")
    assert len(rows) + len(rejected) == len(records) == done.read
    numbers = {r["number"] for r in rejected}
    assert [r["record"] for r in rejected] == [records[n - 1] for n in sorted(numbers)]
    kept = [r for n, r in enumerate(records, start=1) if n not in numbers]
    made = [(row.query, row.responses["chosen"], row.responses["rejected"]) for row in rows]
    assert made == [(r["prompt"].strip(), r["chosen"].strip(), r["rejected"].strip()) for r in kept]


def test_the_trainer_takes_the_rows(tmp_path: Path) -> None:
    from alignvec.train.config import make_config

    done, _, _ = imported(lines(tmp_path / "pku.jsonl", [safe_record(i) for i in range(30)]))
    config = make_config("test", {"name": "safety", "data": tmp_path / "out" / "rows.jsonl", "order": done.order})
    assert config.data is not None
    rows = load_rows(config.data, split=config.split)
    assert len(rows) == done.splits["train"]
    sides = {side: preference_pairs(rows, parse_order(order)) for side, order in config.orders().items()}
    assert all(pair.chosen.startswith("Call a locksmith") for pair in sides["positive"])
    assert all(pair.chosen.startswith("Take two picks") for pair in sides["negative"])
