"""A merge that is killed, starved or crowded out: the same bytes in the end, and never half a model at its place."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from merging import EMBEDDING, NORM, UP, grid, recipe, save, tensors_of, write_base

from alignvec.errors import StorageError
from alignvec.merge import staging as staging_module
from alignvec.merge.run import REPORT, merge
from alignvec.merge.staging import JOURNAL, PLAN, staging
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from tests.conftest import write_tiny_model

POINTS = 20
Job = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharded base of hidden size 256 and two vectors for it."""
    folder = tmp_path_factory.mktemp("killed")
    base = write_base(write_tiny_model(folder / "tiny", hidden=256), folder / "base", shards=3)
    low = LowRankDelta(grid(4, 256, seed=1), grid(512, 4, seed=2))
    save(
        base,
        folder / "one",
        {UP: low, EMBEDDING: DenseDelta(grid(258, 256, seed=3)), NORM: DenseDelta(torch.ones(256))},
    )
    save(base, folder / "two", {EMBEDDING: DenseDelta(grid(258, 256, seed=4))})
    return folder


@pytest.fixture(scope="module")
def job(place: Path) -> Iterator[Job]:
    """Runs a merge in a process of its own: job(out, die_at=..., seed=..., overwrite=...)."""
    script = Path(__file__).with_name("killed_merge.py")
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        answers, questions = server.stdout, server.stdin

        def ask(out: Path, *, die_at: int = 0, seed: int = 0, overwrite: bool = False) -> dict[str, Any]:
            asked = recipe(
                place / "base", {"one": 0.3, "two": -0.7}, dtype="bfloat16", rounding="stochastic", seed=seed
            )
            places = {name: str(place / name) for name in ("one", "two")}
            value = {"recipe": asked.model_dump(mode="json"), "out": str(out), "places": places}
            questions.write(json.dumps({**value, "die_at": die_at, "overwrite": overwrite}) + "\n")
            questions.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
            assert not answer["failed"]
            return answer

        yield ask
        questions.close()


def content(folder: Path) -> dict[str, bytes]:
    """All files' bytes; of the report what does not tell of the run itself."""
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    report = json.loads(found.pop(REPORT))
    report.pop("provenance")
    return {**found, REPORT: json.dumps(report).encode()}


@pytest.fixture(scope="module")
def whole(job: Job, place: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What an uninterrupted merge writes, and how much it did."""
    answer = job(place / "whole")
    assert answer["records"] == len(tensors_of(place / "base"))
    return content(place / "whole"), answer


def recorded(out: Path) -> int:
    journal = out.parent / f".{out.name}.merging" / JOURNAL
    lines = journal.read_text().splitlines() if journal.is_file() else []
    return sum(line.startswith("[") and line.endswith("]]]") for line in lines)


@pytest.mark.parametrize("point", range(POINTS))
def test_a_kill_at_a_random_point_loses_nothing(
    point: int, job: Job, whole: tuple[dict[str, bytes], dict[str, Any]], tmp_path: Path
) -> None:
    expected, once = whole
    draw, out = random.Random(point), tmp_path / "out"
    for again in (False, True):  # killed, and killed again while it goes on
        answer = job(out, die_at=draw.randint(1, once["things"] - 1))
        assert answer["killed"] or again  # the second time less may be left to do than the draw
        if out.exists():
            assert content(out) == expected
    left = once["records"] - recorded(out) if (out.parent / f".{out.name}.merging" / PLAN).is_file() else None
    answer = job(out)
    assert not answer["killed"]
    if left is not None:
        assert answer["records"] == left  # nothing that was recorded is written again
    assert content(out) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("before_the_end", range(12))
def test_a_kill_among_the_last_steps(
    before_the_end: int, job: Job, whole: tuple[dict[str, bytes], dict[str, Any]], tmp_path: Path
) -> None:
    expected, once = whole
    out = tmp_path / "out"
    job(out, die_at=once["things"] - before_the_end)
    assert not out.exists() or content(out) == expected
    job(out)
    assert content(out) == expected


def test_a_kill_while_another_merge_is_replaced_leaves_the_one_or_the_other(
    job: Job, whole: tuple[dict[str, bytes], dict[str, Any]], place: Path, tmp_path: Path
) -> None:
    expected, once = whole
    job(tmp_path / "old", seed=1)
    old = content(tmp_path / "old")
    seen = set()
    for before_the_end in range(8):
        out = tmp_path / f"out{before_the_end}"
        shutil.copytree(tmp_path / "old", out)
        job(out, die_at=once["things"] + 5 - before_the_end, overwrite=True)
        if out.exists():
            assert content(out) in (old, expected)
        seen.add("none" if not out.exists() else "old" if content(out) == old else "new")
        job(out, overwrite=True)
        assert content(out) == expected
    assert {"old", "new"} <= seen


def test_another_recipe_after_a_kill_starts_anew(
    job: Job, whole: tuple[dict[str, bytes], dict[str, Any]], tmp_path: Path
) -> None:
    expected, once = whole
    out = tmp_path / "out"
    assert job(out, die_at=once["things"] - 30, seed=1)["killed"]
    assert recorded(out) > 0
    assert job(out)["records"] == once["records"]
    assert content(out) == expected


def test_the_same_recipe_with_its_knobs_in_another_order_goes_on(
    job: Job, whole: tuple[dict[str, bytes], dict[str, Any]], place: Path, tmp_path: Path
) -> None:
    expected, once = whole
    out = tmp_path / "out"
    assert job(out, die_at=once["things"] - 30)["killed"]
    told: list[int] = []
    asked = recipe(place / "base", {"two": -0.7, "one": 0.3}, dtype="bfloat16", rounding="stochastic")
    places = {name: place / name for name in ("one", "two")}
    before = recorded(out)
    report = merge(asked, out, vectors=places, advance=lambda done, _total: told.append(done))
    assert len(told) == once["records"] - before + 1  # the first tells what was done already
    found = json.loads(expected[REPORT])
    assert {name: knob.realised for name, knob in report.knobs.items()} == pytest.approx(
        {name: knob["realised"] for name, knob in found["knobs"].items()}, rel=1e-4
    )  # the inner products are float32 sums, whose order is the processor's; another knob's share would be far off
    assert {k: v for k, v in content(out).items() if k != REPORT} == {k: v for k, v in expected.items() if k != REPORT}


HOLD = """
import sys
from pathlib import Path
from alignvec.merge.staging import staging
with staging(Path(sys.argv[1]), {}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_place_belongs_to_one_process_until_it_ends_or_dies(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for way in ("killed", "done"):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None and holder.stdin is not None
            assert holder.stdout.readline() == "held\n"
            message = "another merge is writing .*/out now; wait for it, or choose another --out"
            with pytest.raises(StorageError, match=message), staging(out, {}):
                pytest.fail("two at once")
            assert (out.parent / f".{out.name}.merging" / PLAN).is_file()
            if way == "killed":
                holder.kill()
            else:
                holder.stdin.close()
        assert out.exists() == (way == "done")
    with staging(out, {"more": 1}) as second:
        (second.folder / "file").touch()
    assert [path.name for path in out.iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def interrupted(out: Path, plan: dict[str, Any], records: dict[str, Any]) -> Path:
    with pytest.raises(RuntimeError), staging(out, plan) as place:
        (place.folder / "bytes").touch()
        for name, value in records.items():
            place.record(name, value)
        raise RuntimeError
    return out.parent / f".{out.name}.merging"


def test_what_was_recorded_is_there_again(tmp_path: Path) -> None:
    records = {"one": [[0.1], [1e-300]], "zwei ä": [[], []]}
    interrupted(tmp_path / "out", {"a": 1, "b": [2]}, records)
    with staging(tmp_path / "out", {"b": [2], "a": 1}) as place:
        assert place.done == records
        assert (place.folder / "bytes").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bytes"]


@pytest.mark.parametrize("change", ["plan", "boot", "no plan", "broken plan", "no journal"])
def test_what_cannot_be_trusted_begins_anew(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boot").write_text("one")
    monkeypatch.setattr(staging_module, "_BOOT", tmp_path / "boot")
    folder = interrupted(tmp_path / "out", {"a": 1}, {"one": [[]]})
    plan = {"a": 2} if change == "plan" else {"a": 1}
    if change == "boot":  # the machine may have lost what was not yet on the disk
        (tmp_path / "boot").write_text("two")
    elif change != "plan":
        path = folder / (JOURNAL if change == "no journal" else PLAN)
        path.write_text('{"a": ') if change == "broken plan" else path.unlink()
    with staging(tmp_path / "out", plan) as place:
        assert place.done == {}
        assert not (place.folder / "bytes").exists()


@pytest.mark.parametrize("missing", range(1, 17))
def test_a_line_that_was_cut_short_counts_as_absent_and_spoils_no_other(missing: int, tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "out", {}, {"one": [[1.0]], "two": [[2.0]]})
    whole = (folder / JOURNAL).read_bytes()
    (folder / JOURNAL).write_bytes(whole[:-missing])
    interrupted(tmp_path / "out", {}, {"three": [[3.0]]})
    with staging(tmp_path / "out", {}) as place:
        assert place.done == {"one": [[1.0]], "three": [[3.0]]}


def test_a_read_only_parent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refused)
    message = "cannot write .*: permission denied; choose another place"
    with pytest.raises(StorageError, match=message), staging(tmp_path / "a/out", {}):
        pytest.fail("written")
