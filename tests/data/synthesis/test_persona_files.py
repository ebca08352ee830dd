"""Files of personas: which are read, which are refused."""

import json
from pathlib import Path

import pytest

from alignvec.data.synthesis.personas import persona_texts
from alignvec.errors import DataError


def test_text_and_json_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text("A nurse.\n\nA cook.\n")
    assert [text.strip() for text in persona_texts(tmp_path / "people.txt")] == ["A nurse.", "A cook."]
    lines = [json.dumps(record) for record in ({"persona": "A nurse."}, {"text": "A cook."})]
    (tmp_path / "people.JSONL").write_text("\n".join(lines))
    assert list(persona_texts(tmp_path / "people.JSONL")) == ["A nurse.", "A cook."]


@pytest.mark.parametrize("name", ["people.csv", "people.tsv", "people.json", "people.parquet", "people.CSV"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("persona\nA nurse who asks a lot.\n")
    with pytest.raises(DataError, match=r"are not read as personas; use \.txt \(one a line\) or \.jsonl") as caught:
        list(persona_texts(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
