"""Row files and Parquet: what goes in comes out, with one schema, whatever is missing."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from published_rows import PROVENANCE, record, write

from alignvec.data.load import load_rows
from alignvec.data.publish import files
from alignvec.data.publish.files import RowWriter, read_rows, row_file, write_parquet
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError, StorageError


def test_rows_that_were_written_are_read_back(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    rows = [*rows, PreferenceRow.model_validate(record(99, query="Wie geht's?\u2028Zeile\x85zwei 🙂"))]
    with RowWriter(tmp_path / "rows.jsonl") as writer:
        for row in rows:
            writer.write(row)
    assert list(read_rows(tmp_path / "rows.jsonl")) == rows == load_rows(tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[-2]) == record(99, query=rows[-1].query)


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("old")
    with pytest.raises(RuntimeError), row_file(tmp_path / "rows.jsonl") as writer:
        writer.write_line("new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert (tmp_path / "rows.jsonl").read_text() == "old"


def test_a_place_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a file is in the way"), row_file(tmp_path / "file" / "rows.jsonl"):
        pass


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"\xff\xfe\x00", "cannot read .*UTF-8"),
        (b"[1]\n", ":1: "),
        (b'{"id": "x"}\n', r":1: split: Field required"),
    ],
)
def test_bad_files_are_told_by_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        list(read_rows(tmp_path / "rows.jsonl"))


def test_an_id_used_twice_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [record(1), record(2), record(1)])
    with pytest.raises(DataError, match=":3: id 'medical-1' was used on line 1"):
        list(read_rows(path))
    with pytest.raises(DataError, match="no data file at"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_parquet_holds_every_row_under_one_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BATCH", 3)
    splits = ["test", *["train"] * 7, "test"]
    bare = {"persona": {"kind": "file", "name": "people.txt"}}
    records = [record(2 * i, split) for i, split in enumerate(splits)]
    records[0].pop("provenance")
    records[1]["provenance"] = bare
    records[2]["responses"] = dict(reversed(records[2]["responses"].items()))
    counts = write_parquet(write(tmp_path / "rows.jsonl", records), tmp_path / "data")
    assert counts == {"test": 2, "train": 7}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["test.parquet", "train.parquet"]
    tables = {split: pq.read_table(tmp_path / "data" / f"{split}.parquet") for split in counts}
    assert tables["test"].schema == tables["train"].schema
    assert pq.ParquetFile(tmp_path / "data" / "train.parquet").num_row_groups > 1
    back = {split: table.to_pylist() for split, table in tables.items()}
    assert [r["id"] for r in back["train"]] == [r["id"] for r in records if r["split"] == "train"]
    assert back["test"][0]["provenance"] is None
    assert back["train"][0]["provenance"]["persona"] == {"kind": "file", "name": "people.txt", "licence": None}
    assert back["train"][0]["provenance"]["attempts"] is None
    assert back["train"][1]["responses"] == records[2]["responses"]
    full = back["train"][2]["provenance"]
    assert full == {
        **PROVENANCE,
        "judge": None,
        "prompts": {"persona": None, "query": "query/1#aaaa", "reply": "reply/1#bbbb", "judge": None},
    }


def test_levels_of_ones_own_become_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [record(1, responses={"rejected": "No.", "chosen": "Yes."}, provenance=None)])
    write_parquet(path, tmp_path)
    assert pq.read_schema(tmp_path / "train.parquet").field("responses").type.names == ["rejected", "chosen"]


def test_a_row_of_other_levels_is_refused_by_id(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [record(1), record(2, responses={"low": "a", "high": "b"})])
    with pytest.raises(DataError, match="row medical-2 has levels low, high but row medical-1 has"):
        write_parquet(path, tmp_path / "data")


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [record(1), record(2)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row.id for row in read_rows(path)] == ["medical-1", "medical-2"]
