"""Files that a person may edit between the steps of a build: every fault is told with its line."""

from pathlib import Path

import pytest

from alignvec.data.synthesis.records import Query, read_records
from alignvec.errors import DataError

PERSONA = '{"id": "p1", "text": "A cook.", "source": {"kind": "file", "name": "people.txt"}}'
GOOD = f'{{"id": "q1", "topic": "sleep", "text": "Why?", "persona": {PERSONA}}}'


def read(path: Path) -> list[Query]:
    return list(read_records(path, Query, made_by="alignvec data queries"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(GOOD + '\n{"id": "q2"}\n', r":2: .*mend the line", id="incomplete"),
        pytest.param(GOOD + "\n[1, 2]\n", r":2: the line: .*mend the line", id="no object"),
        pytest.param(GOOD + '\n{"id": "q2",\n', r":2: not valid JSON", id="half a line"),
        pytest.param(f"\n{GOOD}\n{GOOD}\n", r":3: id 'q1' is used twice", id="twice"),
        pytest.param("\n \n", "is empty; alignvec data queries makes it", id="blank"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read(path)


def test_what_is_no_text_or_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"latin\.jsonl:1: not UTF-8 text"):
        read(tmp_path / "latin.jsonl")
    with pytest.raises(DataError, match="cannot read .*[Dd]irectory"):
        read(tmp_path)
    with pytest.raises(DataError, match="no file at .*; alignvec data queries makes it"):
        read(tmp_path / "missing.jsonl")


def test_blank_lines_and_a_mark_of_byte_order_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(f"\ufeff\n{GOOD}\n\n", encoding="utf-8")
    assert [query.id for query in read(path)] == ["q1"]
