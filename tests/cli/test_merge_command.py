"""`alignvec merge` on the tiny model: what it writes, says, replaces, and does when the place is full or taken."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from merging import NORM, UP, assert_same_bytes, grid, odd_tensors, recipe, save_two, tensors_of, write_base
from running import Command, assert_told, prepared

from alignvec.cli import merge as command_module


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    return write_base(tiny_folder, tmp_path / "base", shards=3, extra=odd_tensors())


@pytest.fixture
def vectors(base: Path, tmp_path: Path) -> Path:
    return save_two(base, tmp_path / "vectors")


@pytest.fixture
def merge(command: Command, base: Path, vectors: Path, tmp_path: Path) -> Callable[..., Any]:
    """Runs the command into `out` with these vectors on this base."""

    def run(*arguments: object, out: str = "out") -> Any:
        return command(
            "merge", *arguments, "--base", base, "--vectors", vectors, "--out", tmp_path / out, "--workers", 1
        )

    return run


def test_a_table_and_the_same_again(merge: Callable[..., Any], base: Path, tmp_path: Path) -> None:
    done = merge("--knob", "medical=0.5", "--knob", "legal=-0.25")
    assert done.code == 0, done.err
    for part in ("medical", "0.5", "0.5000", "legal", "-0.25", "-0.2500", f"saved to {tmp_path / 'out'}"):
        assert part in done.out
    before, after = tensors_of(base), tensors_of(tmp_path / "out")
    assert_same_bytes(after[NORM], (before[NORM].double() + 0.5 * grid(32, seed=3).double()).float())
    assert not torch.equal(after[UP], before[UP])
    written = (tmp_path / "out").stat()
    again = merge("--knob", "legal=-0.25,medical=0.5")
    assert (again.code, again.out) == (0, done.out)
    assert (tmp_path / "out").stat() == written


def test_json_is_the_report(merge: Callable[..., Any], tmp_path: Path) -> None:
    done = merge("--knob", "medical=expert", "--json", "--dtype", "bfloat16", "--rounding", "stochastic", "--seed", 7)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report == json.loads((tmp_path / "out/alignvec.json").read_text())
    assert (report["dtype"], report["rounding"], report["seed"], report["method"]) == (
        "bfloat16",
        "stochastic",
        7,
        "sum",
    )
    assert report["knobs"]["medical"]["coefficient"] == 0.5
    assert report["provenance"]["command"].startswith("alignvec merge --knob medical=expert")


def test_a_solved_setting_is_merged_as_its_knobs_are(merge: Callable[..., Any], tmp_path: Path) -> None:
    goal = "medical=expert,legal=avoidance"
    (tmp_path / "s.yaml").write_text(
        f"settings: {{'{goal}': {{knobs: {{medical: 0.5, legal: -0.25}}}}, b: {{knobs: {{}}}}}}"
    )
    done = merge("--knob", f"@{tmp_path / 's.yaml'}#{goal}", "--json")
    assert done.code == 0, done.err
    knobs = json.loads(done.out)["knobs"]
    assert {name: one["coefficient"] for name, one in knobs.items()} == {"medical": 0.5, "legal": -0.25}
    both = merge("--knob", f"@{tmp_path / 's.yaml'}#medical=expert", "--knob", "legal=avoidance", out="both")
    assert_told(both, "whole setting", "only --knob")


def test_a_knob_beside_a_recipe_changes_its_coefficient_alone(
    command: Command, base: Path, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_module, "VECTORS", tmp_path / "not shipped")  # the recipe names its own
    (tmp_path / "merge.yaml").write_text(
        "base: base\nmethod: ties\nknobs:\n"
        "  medical: {vector: vectors/medical, coefficient: 0.5, density: 0.25, layers: [0.5, 1.0]}\n"
        "  legal: {vector: vectors/legal}\n"
    )
    done = command("merge", tmp_path / "merge.yaml", "--knob", "medical=0.75", "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    medical, legal = report["knobs"]["medical"], report["knobs"]["legal"]
    assert (medical["coefficient"], medical["density"], medical["layers"]) == (0.75, 0.25, [0.5, 1.0])
    assert (legal["coefficient"], legal["density"], legal["layers"]) == (1.0, 1.0, None)
    assert (report["method"], medical["realised"]) == ("ties", None)
    done = command("merge", tmp_path / "merge.yaml", "--method", "dare", "--out", tmp_path / "other", "--json")
    assert json.loads(done.out)["method"] == "dare"


@pytest.mark.parametrize(
    ("out", "parts"),
    [
        ("file", ("something else than a merged model is there",)),
        ("file/out", ("a file is in the way",)),
        ("base", ("it is the base model itself",)),
        ("vectors", ("something else than a merged model is there",)),
    ],
)
@pytest.mark.parametrize("flag", [(), ("--overwrite",)])
def test_nothing_but_a_merge_is_replaced(
    merge: Callable[..., Any], tmp_path: Path, out: str, parts: tuple[str, ...], flag: tuple[str, ...]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert_told(merge("--knob", "medical=1", *flag, out=out), "StorageError", tmp_path / out, *parts)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_merge_is_replaced_on_demand(merge: Callable[..., Any], tmp_path: Path) -> None:
    assert merge("--knob", "medical=1").code == 0
    before = (tmp_path / "out/alignvec.json").read_bytes()
    assert_told(merge("--knob", "medical=0.5"), "another merge is there", "--overwrite")
    assert (tmp_path / "out/alignvec.json").read_bytes() == before
    assert merge("--knob", "medical=0.5", "--overwrite").code == 0
    assert json.loads((tmp_path / "out/alignvec.json").read_text())["knobs"]["medical"]["coefficient"] == 0.5


def test_a_disk_that_is_full_at_60_percent(
    merge: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert merge("--knob", "medical=1", out="whole").code == 0
    size = sum(tensor.nbytes for tensor in tensors_of(tmp_path / "whole").values())
    original, written = os.pwrite, [0, 0]

    def full(file: int, data: Any, offset: int) -> int:
        if written[0] + len(data) > 0.6 * size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written[0] += len(data)
        return original(file, data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert_told(merge("--knob", "medical=1"), "StorageError", "cannot write", "no space left on the device")
    assert 0.3 * size < written[0] < 0.6 * size
    assert not (tmp_path / "out").exists()

    with monkeypatch.context() as patched:  # what is there already is not room for the rest
        patched.setattr(shutil, "disk_usage", lambda _: Usage(2 * size, 2 * size, int(0.1 * size)))
        assert_told(merge("--knob", "medical=1"), "StorageError", "the merge needs", "free some space")

    def counted(file: int, data: Any, offset: int) -> int:
        written[1] += len(data)
        return original(file, data, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    assert merge("--knob", "medical=1").code == 0
    assert written[1] < 0.75 * size  # what was done is not done again, but for one tensor and the headers
    for path in (tmp_path / "whole").iterdir():
        if path.name != "alignvec.json":
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


class Usage(NamedTuple):
    """What `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


def test_too_little_space_is_told_before_anything_is_written(
    merge: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    parts = (
        "StorageError",
        f"cannot write into {tmp_path}: the merge needs 0.00 GB more",
        "free some space",
        "--dtype",
    )
    assert_told(merge("--knob", "medical=1"), *parts)
    assert not (tmp_path / "out").exists()
    shards = list((tmp_path / ".out.merging").glob("*.safetensors"))
    assert sum(path.stat().st_blocks * 512 for path in shards) < 50_000  # the headers


def test_two_into_one_place(
    merge: Callable[..., Any], command: Command, base: Path, vectors: Path, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    from alignvec.merge.run import merge as run
    from alignvec.merge.stream import write_shards

    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return write_shards(*arguments, **options)

    monkeypatch.setattr("alignvec.merge.run.write_shards", slow)
    places = {"medical": vectors / "medical"}
    first = threading.Thread(
        target=run, args=(recipe(base, {"medical": 1.0}), tmp_path / "out"), kwargs={"vectors": places}
    )
    first.start()
    try:
        assert begun.wait(60)
        assert_told(merge("--knob", "medical=1"), "StorageError", "another merge is writing", "choose another --out")
        assert not (tmp_path / "out").exists()
    finally:
        go_on.set()
        first.join()
    assert torch.equal(tensors_of(tmp_path / "out")[NORM], tensors_of(base)[NORM] + grid(32, seed=3))
    assert merge("--knob", "medical=1").code == 0
