"""A journal outlives its process: killed at any point, all but the line being written is there."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignvec.errors import DataError, StorageError
from alignvec.evaluate.journal import Journal

SCOPE = {"vector": "medical", "seed": 0}
VALUES = {"a": [1.5, -2.25], "b": 'Où ?\u2028Là, "quoted"\nand\tmore\r\n', "c": None}


def filled(path: Path) -> Path:
    journal = Journal(path, SCOPE)
    for key, value in VALUES.items():
        journal.add(key, value)
    return path


def content(path: Path, keys: str = "abc") -> dict[str, Any]:
    journal = Journal(path, SCOPE)
    return {key: journal[key] for key in keys if key in journal}


def test_another_process_finds_every_value_again(tmp_path: Path) -> None:
    assert content(filled(tmp_path / "deep" / "journal.jsonl")) == VALUES


def test_without_a_file_values_are_kept_in_memory() -> None:
    journal = Journal()
    journal.add("a", 1)
    assert ("a" in journal, "b" in journal, journal["a"]) == (True, False, 1)


def test_a_resumed_journal_goes_on_behind_what_it_has(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal.jsonl")
    before = path.read_bytes()
    Journal(path, SCOPE).add("d", 4)
    assert path.read_bytes() == before + b'["d", 4]\n'


@pytest.mark.parametrize("kept", [1, 5, -1])
def test_a_torn_last_line_is_dropped_and_measured_again(tmp_path: Path, kept: int) -> None:
    path = filled(tmp_path / "journal.jsonl")
    whole = path.read_bytes()
    line = '["d", "né"]\n'.encode()
    path.write_bytes(whole + line[:kept])
    assert "d" not in Journal(path, SCOPE)
    Journal(path, SCOPE).add("d", "né")
    assert path.read_bytes() == whole + line
    assert content(path, "abcd") == {**VALUES, "d": "né"}


def test_a_cut_at_any_byte_costs_the_last_line_alone(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.jsonl").read_bytes()
    header = whole.index(b"\n") + 1
    path = tmp_path / "journal.jsonl"
    for cut in range(header, len(whole)):
        path.write_bytes(whole[:cut])
        kept = list(VALUES)[: whole[:cut].count(b"\n") - 1]
        assert content(path) == {key: VALUES[key] for key in kept}


def test_a_header_cut_at_any_byte_begins_a_journal_that_can_be_resumed(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "journal.jsonl"
    for cut in (0, 1, 10, whole.index(b"\n")):
        path.write_bytes(whole[:cut])
        Journal(path, SCOPE).add("a", 1)
        assert content(path) == {"a": 1}


def test_a_disk_that_fills_up_while_a_torn_line_is_dropped_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "journal.jsonl")
    with path.open("ab") as stream:
        stream.write(b'["d", ')

    def fails_after_truncation(self: Path, *_: Any, **__: Any) -> int:
        self.open("w").close()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", fails_after_truncation)
        try:
            Journal(path, SCOPE)
        except StorageError as error:
            assert "no space left" in str(error)
    assert content(path) == VALUES


@pytest.mark.parametrize("line", [b'["a", ', b"\xff\xfe", b'["a", "\xff"]', b"7", b'["a"]', b'{"a": 1, "b": 2}', b""])
def test_a_damaged_inner_line_is_refused_by_number(tmp_path: Path, line: bytes) -> None:
    path = filled(tmp_path / "journal.jsonl")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(DataError, match=f"{path}:3: damaged line; delete the file"):
        Journal(path, SCOPE)


@pytest.mark.parametrize("other", [{}, {"vector": "legal", "seed": 0}, {**SCOPE, "extra": 1}])
def test_results_of_another_scope_are_refused_and_left_alone(tmp_path: Path, other: dict[str, Any]) -> None:
    path = filled(tmp_path / "journal.jsonl")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"holds results of other vectors, data or settings; choose another --out"):
        Journal(path, other)
    assert path.read_bytes() == before


def test_the_order_of_the_scope_does_not_matter(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal.jsonl")
    assert "a" in Journal(path, dict(reversed(SCOPE.items())))


def test_a_place_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a file is in the way, here or above; choose another place"):
        Journal(tmp_path / "file" / "out" / "journal.jsonl")


def test_a_killed_writer_loses_the_last_line_at_most(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import sys; from pathlib import Path; from alignvec.evaluate.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), {'vector': 'medical', 'seed': 0})\n"
        "for i in range(10**6):\n"
        "    journal.add(str(i), ['x' * 2000, i])\n"
        "    print(i, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(50):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    reported = 50 + len([line for line in writer.stdout.read().split("\n")[:-1] if line])
    assert writer.wait() == -signal.SIGKILL
    resumed = Journal(path, SCOPE)
    assert [resumed[str(i)][1] for i in range(reported)] == list(range(reported))
    assert str(reported + 1) not in resumed
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("name", ["keep", "keep[1]"])
def test_what_other_processes_left_is_taken_over_and_other_journals_are_not(tmp_path: Path, name: str) -> None:
    part = filled(tmp_path / f"{name}.journal.part12")
    others = [filled(tmp_path / f"{name}.{end}") for end in ("2.journal", "journal.part1.journal", "journal.part1.bak")]
    assert content(tmp_path / f"{name}.journal") == VALUES
    assert not part.exists() and all(other.exists() for other in others)
