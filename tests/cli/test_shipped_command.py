"""`alignvec shipped` and `alignvec --version`."""

import json
from pathlib import Path

from running import Command, assert_told

from alignvec import __version__, shipped
from alignvec.shipped import CONTENTS, ROOT


def test_what_is_shipped_is_listed_with_sizes(command: Command) -> None:
    done = command("shipped")
    assert done.code == 0
    first, *lines = done.out.splitlines()
    assert first == f"in {ROOT}:"
    assert [line.split()[0] for line in lines] == list(CONTENTS)
    told = json.loads(command("shipped", "--json").out)
    assert told["root"] == str(ROOT)
    for line, part in zip(lines, told["parts"], strict=True):
        assert line.split()[1] == str(part["files"])
        assert f"{part['bytes'] / 1e6:.2f} MB" in line


def test_a_copy_is_listed_where_it_is(command: Command, tmp_path: Path) -> None:
    command.monkeypatch.setattr(shipped, "CONTENTS", {"recipes": "how vectors were made"})
    done = command("shipped", "--copy", tmp_path / "mine")
    assert (done.code, done.out.splitlines()[0]) == (0, f"written to {tmp_path / 'mine'}:")
    assert (tmp_path / "mine/recipes/medical.yaml").read_bytes() == (ROOT / "recipes/medical.yaml").read_bytes()
    assert_told(command("shipped", "--copy", tmp_path / "mine"), "DataError", "recipes is there already")


def test_a_path_of_the_docs_outside_the_repository_is_told_with_the_way_to_it(command: Command, tmp_path: Path) -> None:
    command.monkeypatch.chdir(tmp_path)
    assert_told(command("inspect", "vectors/medical"), "VectorError", "no vector at", "alignvec shipped --copy DIR")


def test_the_version_is_told_alone(command: Command) -> None:
    done = command("--version")
    assert (done.code, done.out, done.err) == (0, f"alignvec {__version__}\n", "")
