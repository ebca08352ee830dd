"""Files of prompts: read as a stream, every complaint with its line."""

import json
from pathlib import Path

import pytest

from alignvec.errors import DataError
from alignvec.evaluate.bulk.prompts import read_prompts
from tests.conftest import preference_record


def test_blocks_are_the_prompts_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\ufeff" + "".join(f'{{"id": "{i}", "query": "q{i}"}}\n\n' for i in range(7)))
    read = read_prompts(path, limit=6)
    assert read.count == 6
    assert [[one.id for one in block] for block in read.blocks(4)] == [["0", "1", "2", "3"], ["4", "5"]]


def test_rows_of_preference_data_are_prompts_by_split(data_file: Path) -> None:
    read = read_prompts(data_file, split="test")
    expected = [preference_record(i, "test") for i in range(12, 16)]
    assert [(one.id, one.query, one.persona, one.domain) for one in read] == [
        (row["id"], row["query"], row["persona"], row["domain"]) for row in expected
    ]


def test_the_digest_is_of_what_is_used(tmp_path: Path) -> None:
    def digest(*records: dict[str, str]) -> str:
        path = tmp_path / "p.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in records))
        return read_prompts(path).digest

    one = {"id": "1", "query": "a?"}
    assert digest(one) == digest(one | {"topic": "other"})
    different = [digest(one), digest(one | {"query": "b?"}), digest(one | {"persona": "p"}), digest(one | {"id": "2"})]
    assert len(set(different)) == 4


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"", "has no prompts", id="empty"),
        pytest.param(b'{"id": "1"}\n', ":1: query: Field required", id="no query"),
        pytest.param(b'{"id": "1", "query": "  "}\n', ":1: query:", id="blank query"),
        pytest.param(b'{"id": "1", "query": "a", "prompt": "b"}\n', ":1: prompt: Extra inputs", id="unknown key"),
        pytest.param(
            b'{"id": "1", "query": "a"}\n{"id": "1", "query": "b"}\n', ":2: id '1' was used on line 1", id="twice"
        ),
        pytest.param(b'{"id": "1", "query": "a"}\n{"id": "2",\n', ":2:", id="no JSON"),
        pytest.param(b'{"id": "1", "query": "a"}\n{"id": "2", "query": "\xff"}\n', "not UTF-8", id="bytes"),
        pytest.param(None, "no prompts at", id="missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "p.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_prompts(path)
    assert told in str(caught.value)


def test_a_folder_is_no_file_of_prompts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_prompts(tmp_path)
