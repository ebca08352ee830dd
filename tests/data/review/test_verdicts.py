"""The ratings file: several writers, kills and foreign lines."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignvec.data.review.ratings import Rating, load_ratings
from alignvec.data.review.verdicts import Verdicts
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError, StorageError

WRITER = """
import sys
from pathlib import Path
from alignvec.data.load import load_rows
from alignvec.data.review.ratings import Rating
from alignvec.data.review.verdicts import Verdicts
rows = load_rows(Path(sys.argv[1]))
verdicts = Verdicts(Path(sys.argv[2]), rows)
for level in ("generic", "expert"):
    for row in rows:
        print("ready", flush=True)
        sys.stdin.readline()
        for shown in row.responses:
            verdicts.save(Rating(rater=sys.argv[3], id=row.id, shown_level=shown, level=level))
"""


def rating(number: int = 0, *, rater: str = "ann", shown: str = "expert", level: str | None = "expert") -> Rating:
    return Rating(rater=rater, id=f"medical-{number}", shown_level=shown, level=level)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path, data_file: Path) -> None:
    out = tmp_path / "ratings.jsonl"
    names = ["ann", "ben", "ben"]  # two sessions of one rater
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(data_file), str(out), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for _ in range(2 * 16):  # row after row they start together, so that they do write at once
        for writer in writers:
            assert writer.stdout and writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin
            writer.stdin.write("go\n")
            writer.stdin.flush()
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 3 * 2 * 16 * 3
    last = load_ratings(out)
    assert len(last) == 2 * 16 * 3
    assert sum(r.level == "expert" for r in last if r.rater == "ann") == 48


def test_a_verdict_of_another_process_is_seen(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    one, two = (Verdicts(tmp_path / "r.jsonl", rows) for _ in range(2))
    one.save(rating(0))
    two.save(rating(1))
    one.save(rating(0, level="generic"))
    assert two.of("ann") == one.of("ann") == [rating(1), rating(0, level="generic")]
    assert two.of("ben") == []
    assert (one.saved, two.saved) == ({"ann": 2}, {"ann": 1})


@pytest.mark.parametrize("kept", [1, 9, 30, -2, -1])
def test_a_line_cut_off_by_a_kill_is_removed_and_told(
    tmp_path: Path, rows: list[PreferenceRow], kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r.jsonl"
    whole = [rating(0, rater="Zoë").model_dump_json() + "\n", rating(1, rater="Zoë").model_dump_json() + "\n"]
    path.write_bytes(whole[0].encode() + whole[1].encode()[:kept])
    complete = kept == -1  # only the line break is missing: a verdict like any other
    expected = [rating(0, rater="Zoë")] + [rating(1, rater="Zoë")] * complete
    assert load_ratings(path) == expected
    with caplog.at_level(logging.WARNING):
        verdicts = Verdicts(path, rows)
    assert ("cut off" in caplog.text) is not complete
    assert verdicts.of("Zoë") == expected
    verdicts.save(rating(2, rater="Zoë"))
    assert [r.id for r in load_ratings(path)] == [r.id for r in expected] + ["medical-2"]


def test_a_cut_in_the_middle_of_a_letter_is_a_cut_like_any_other(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    path = tmp_path / "r.jsonl"
    line = rating(1, rater="Zoë").model_dump_json().encode()
    path.write_bytes(line + b"\n" + line[: line.index("ë".encode()) + 1])
    assert load_ratings(path) == [rating(1, rater="Zoë")]
    assert Verdicts(path, rows).of("Zoë") == [rating(1, rater="Zoë")]
    assert path.read_bytes() == line + b"\n"


@pytest.mark.parametrize("text", ["my notes, one line", '{"rater": 1', "x\n", '{"rater": "a"\n', '{"id": "row"'])
def test_what_is_no_ratings_file_is_refused_and_left_alone(
    tmp_path: Path, rows: list[PreferenceRow], text: str
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    if text == '{"rater": 1':  # might be a rating's beginning, with other spacing
        assert Verdicts(path, rows).of("ann") == []
        return
    with pytest.raises(DataError, match=r"notes.txt:1: not valid JSON"):
        Verdicts(path, rows)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "foreign", [rating(99), rating(0, shown="wise"), rating(0, level="wise")], ids=["row", "shown level", "level"]
)
def test_ratings_of_other_rows_are_refused(tmp_path: Path, rows: list[PreferenceRow], foreign: Rating) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(rating(0).model_dump_json() + "\n" + foreign.model_dump_json() + "\n")
    with pytest.raises(DataError, match=r"r.jsonl:2: .*not of these rows and levels.*--out"):
        Verdicts(path, rows)


def test_a_flag_without_a_level_is_a_verdict(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    verdicts = Verdicts(tmp_path / "r.jsonl", rows)
    flagged = Rating(rater="ann", id="medical-3", shown_level="generic", level=None, flag="off topic")
    verdicts.save(flagged)
    assert verdicts.of("ann") == load_ratings(tmp_path / "r.jsonl") == [flagged]


def test_a_file_that_somebody_replaced_is_read_anew(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    path = tmp_path / "r.jsonl"
    verdicts = Verdicts(path, rows)
    for number in range(3):
        verdicts.save(rating(number))
    fresh = tmp_path / "fresh"
    fresh.write_text(rating(7, level="generic").model_dump_json() + "\n")
    fresh.replace(path)
    assert verdicts.of("ann") == [rating(7, level="generic")]


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path: Path, rows: list[PreferenceRow]) -> None:
    with pytest.raises(StorageError, match="a folder is in the way"):
        Verdicts(tmp_path, rows)


def test_a_full_disk_is_told_and_what_was_saved_stays(
    tmp_path: Path, rows: list[PreferenceRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = Verdicts(tmp_path / "r.jsonl", rows)
    verdicts.save(rating(0))
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:20]))  # a write that a full disk cuts
    with pytest.raises(StorageError, match="no space left"):
        verdicts.save(rating(1))
    monkeypatch.undo()
    assert verdicts.of("ann") == [rating(0)]
    verdicts.save(rating(2))
    assert load_ratings(tmp_path / "r.jsonl") == [rating(0), rating(2)]
    assert verdicts.saved == {"ann": 2}
