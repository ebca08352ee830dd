"""`alignvec data review`: what it refuses before any page opens."""

import socket
from pathlib import Path

import pytest
from running import Command, assert_told, prepared


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return prepared(monkeypatch, capsys, tmp_path)


def test_missing_and_empty_rows(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert_told(command("data", "review", "none.jsonl", "--no-browser"), "no data file", "none.jsonl")
    assert_told(command("data", "review", "empty.jsonl", "--no-browser"), "empty.jsonl", "is empty")
    assert not (tmp_path / "ratings.jsonl").exists()


def test_an_empty_name(command: Command, data_file: Path) -> None:
    assert_told(command("data", "review", data_file, "--rater", "  ", "--no-browser"), "--rater is empty")


def test_a_domain_that_is_not_of_the_rows(command: Command, data_file: Path, tmp_path: Path) -> None:
    lines = data_file.read_text().replace('"expert"', '"learned"')
    data_file.write_text(lines)
    told = command("data", "review", data_file, "--no-browser", "--domain", "legal")
    assert_told(told, "'legal'", "no 'learned'", data_file, "--domain")
    assert_told(command("data", "review", data_file, "--no-browser", "--domain", "lego"), "no domain named 'lego'")
    assert not (tmp_path / "ratings.jsonl").exists()


def test_ratings_of_other_rows(command: Command, data_file: Path, tmp_path: Path) -> None:
    line = '{"rater":"ann","id":"legal-1","shown_level":"expert","level":"expert"}\n'
    (tmp_path / "ratings.jsonl").write_text(line)
    told = command("data", "review", data_file, "--no-browser")
    assert_told(told, "ratings.jsonl:1", "'legal-1'", "not of these rows", "--out")
    assert (tmp_path / "ratings.jsonl").read_text() == line


def test_a_ratings_file_that_cannot_be_written(command: Command, data_file: Path, tmp_path: Path) -> None:
    told = command("data", "review", data_file, "--no-browser", "--out", tmp_path / "file" / "ratings.jsonl")
    assert_told(told, "cannot write", "a file is in the way")


def test_a_taken_port_and_a_foreign_address(command: Command, data_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = command("data", "review", data_file, "--no-browser", "--port", port)
    assert_told(told, f"127.0.0.1:{port}", "--port", "in use")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = command("data", "review", data_file, "--no-browser", "--port", port, "--host", "192.0.2.1")
    assert_told(told, "192.0.2.1", "--host")
    assert f"warning: anyone who reaches port {port} of 192.0.2.1 can read the replies and rate them" in told.err
