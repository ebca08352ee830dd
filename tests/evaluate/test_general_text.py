"""General text: middle replies of rows, and windows of a plain file."""

from pathlib import Path

import pytest

from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate import general_text
from alignvec.evaluate.general_text import replies_as_text, windows_of
from alignvec.models import BaseModel


def test_windows_follow_each_other_and_a_short_rest_is_left_out(
    tiny: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(general_text, "WINDOW", 8)
    (tmp_path / "a.txt").write_text("abcdefghijklmnopqr")
    text = windows_of(tiny.tokenizer, tmp_path / "a.txt", max_length=512)
    pieces = [tiny.tokenizer.decode([*e.prompt, *e.replies[0]]) for e in text.encoded]
    assert pieces == ["abcdefgh", "ijklmnop"]
    assert text.ids == ("window 0", "window 1") and [len(e.prompt) for e in text.encoded] == [1, 1]
    assert len(windows_of(tiny.tokenizer, tmp_path / "a.txt", max_length=512, limit=1).ids) == 1
    assert len(windows_of(tiny.tokenizer, tmp_path / "a.txt", max_length=6).ids) == 3
    (tmp_path / "b.txt").write_text("abc")
    (only,) = windows_of(tiny.tokenizer, tmp_path / "b.txt", max_length=512).encoded
    assert len(only.replies[0]) == 2


@pytest.mark.parametrize("content", [b"", b"a", b"\xff\xfe\xff"])
def test_a_file_that_is_no_text_is_told(tiny: BaseModel, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(DataError, match="bad.txt"):
        windows_of(tiny.tokenizer, tmp_path / "bad.txt", max_length=512)


def test_replies_are_the_middle_ones_and_belong_to_their_personas(tiny: BaseModel, rows: list[PreferenceRow]) -> None:
    text = replies_as_text(tiny.tokenizer, rows[:3], "rows", max_length=512)
    told = [tiny.tokenizer.decode(e.replies[0]) for e in text.encoded]
    assert all(row.responses["generic"] in reply for row, reply in zip(rows, told, strict=False))
    assert text.groups == tuple(row.persona for row in rows[:3]) and len(set(text.groups)) == 2
    other = replies_as_text(tiny.tokenizer, rows[1:4], "rows", max_length=512)
    assert text.digest() != other.digest()
