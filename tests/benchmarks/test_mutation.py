"""Sampling mutants: which are not counted, how many of each file are drawn, and what a sample says of all."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/mutation.py"
BEFORE = """def read(path, tied):
    text = path.read_text(encoding="utf-8")
    if not text:
        raise ValueError(f"{path} " "is empty")
    return text.split("a")"""


@pytest.fixture(scope="module")
def mutation() -> Iterator[ModuleType]:
    pytest.importorskip("mutmut", reason="mutation testing needs mutmut, one of the development dependencies")
    spec = importlib.util.spec_from_file_location("mutation", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutation"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutation"]


@pytest.mark.parametrize(
    ("rule", "old", "new", "expected"),
    [
        ({"raise_text": True}, '"is empty"', '"XXis emptyXX"', True),
        ({"raise_text": True}, "{path} ", "{None} ", True),
        ({"raise_text": True}, 'ValueError(f"{path} " "is empty")', "ValueError(None)", False),
        ({"raise_text": True}, 'split("a")', 'split("A")', False),
        ({"raise_text": True}, "not text", "text", False),
        ({"keyword": "encoding"}, 'encoding="utf-8"', "encoding=None", True),
        ({"keyword": "encoding"}, 'encoding="utf-8"', "", True),
        ({"keyword": "encoding"}, 'split("a")', "split(None)", False),
        ({"file": "a.py", "lines": "split"}, 'split("a")', "split(None)", True),
        ({"file": "b.py", "lines": "split"}, 'split("a")', "split(None)", False),
        ({"file": "a.py", "lines": "split"}, "not text", "text", False),
    ],
)
def test_a_mutant_is_left_out_if_it_changes_only_what_the_rule_names(
    mutation: ModuleType, rule: dict[str, Any], old: str, new: str, expected: bool
) -> None:
    assert old in BEFORE
    mutant = mutation.Mutant("a.py", "m", BEFORE, BEFORE.replace(old, new))
    assert mutation.left_out(mutant, rule) is expected


def test_a_change_is_told_by_its_lines(mutation: ModuleType) -> None:
    mutant = mutation.Mutant("a.py", "m", BEFORE, BEFORE.replace("not text", "text"))
    assert mutant.change() == ["- if not text:", "+ if text:"]


def many(mutation: ModuleType, **files: int) -> list[Any]:
    return [mutation.Mutant(file, f"{file}{i}", "", "") for file, count in files.items() for i in range(count)]


def test_a_share_of_every_file_is_drawn_and_no_fewer_than_asked_for(mutation: ModuleType) -> None:
    counted = many(mutation, a=100, b=10, c=3)
    sample = mutation.draw(counted, 0.25, 5, seed=1)
    assert [sum(m.file == file for m in sample) for file in "abc"] == [25, 5, 3]
    assert len({m.name for m in sample}) == 33
    assert sample == mutation.draw(counted, 0.25, 5, seed=1) != mutation.draw(counted, 0.25, 5, seed=2)


def test_the_score_weighs_files_by_their_mutants_and_all_of_them_leave_no_doubt(mutation: ModuleType) -> None:
    counted = many(mutation, a=90, b=10)
    verdicts = {f"a{i}": "killed" if i else "survived" for i in range(10)} | {"b0": "timeout", "b1": "no tests"}
    score, low, high = mutation.estimate(counted, verdicts)
    assert score == pytest.approx(0.9 * 0.9 + 0.1 * 0.5)
    assert 0.6 < low < score < high <= 1
    everything = {m.name: "killed" if m.file == "a" else "survived" for m in counted}
    assert mutation.estimate(counted, everything) == pytest.approx((0.9, 0.9, 0.9))


def test_mutmut_names_the_mutants_that_are_drawn(mutation: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("src/room/a.py")
    path.parent.mkdir(parents=True)
    path.write_text("class Box:\n    def twice(self, x):\n        return 2 * x\n\n\ndef half(x):\n    return x / 2\n")
    found = mutation.mutants(path)
    assert {m.name.rsplit("__mutmut_", 1)[0] for m in found} == {"room.a.xǁBoxǁtwice", "room.a.x_half"}
    assert ["- return x / 2", "+ return x * 2"] in [m.change() for m in found]
    assert ["- return 2 * x", "+ return 3 * x"] in [m.change() for m in found]
