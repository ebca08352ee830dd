"""`alignvec reproduce`: plans, mistakes, a kill in the middle, and two at once."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from running import Command

from alignvec.reproduce.stages import STAGES


def test_a_plan_lists_every_stage_and_measures_nothing(command: Command, tmp_path: Path) -> None:
    for scale in ("tiny", "small", "paper"):
        done = command("reproduce", "--scale", scale, "--dry-run", "--out", tmp_path / scale, "--json")
        assert done.code == 0, done.err
        assert [step["name"] for step in json.loads(done.out)] == list(STAGES)
        assert not (tmp_path / scale).exists()
    table = command("reproduce", "--scale", "paper", "--dry-run", "--out", tmp_path / "paper").out
    assert "goal-cost" in table and "to do" in table and max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--scale", "huge"], "no scale 'huge'"),
        (["--stage", "figure"], "no stage 'figure'"),
        (["--again", "figure"], "no stage 'figure'"),
    ],
)
def test_mistakes_are_one_line(command: Command, tmp_path: Path, options: list[str], told: str) -> None:
    done = command("reproduce", "--scale", "tiny", *options, "--out", tmp_path / "out")
    assert done.code == 2 and told in done.errors[0] and "Traceback" not in done.err


def test_a_stage_and_its_needs_at_a_limit_and_seed(command: Command, tmp_path: Path) -> None:
    given = ["reproduce", "--scale", "tiny", "--stage", "dataset", "--limit", 1, "--seed", 3, "--out", tmp_path / "out"]
    done = command(*given, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert list(found) == ["dataset"] and found["dataset"]["scope"]["seed"] == 3
    assert (tmp_path / "out/report.html").is_file()
    assert json.loads((tmp_path / "out/data/scale.json").read_text())["test"] == 1
    assert "dataset: done before" in command(*given).err
    assert "another 'seed'" in command(*given[:-3], 4, "--out", tmp_path / "out").errors[0]


def test_a_stage_that_another_process_measures_is_left_to_it(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out/work").mkdir(parents=True)
    with FileLock(tmp_path / "out/work/dataset.lock"):
        done = command("reproduce", "--scale", "tiny", "--stage", "dataset", "--out", tmp_path / "out")
    assert done.code == 2 and "another process measures stage 'dataset'" in done.errors[0]
    assert command("reproduce", "--scale", "tiny", "--stage", "dataset", "--out", tmp_path / "out").code == 0


def test_a_killed_stage_goes_on_from_its_journal(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = [sys.executable, "-m", "alignvec.cli.app", "reproduce", "--scale", "tiny", "--stage", "forms", "--out", out]
    journal = out / "data/forms/journal.jsonl"
    with subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < until:
            if journal.is_file() and journal.read_bytes().count(b"\n") > 5:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = [line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert len(kept) > 5
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert journal.read_text().startswith("".join(kept))
    assert "vectors: done before" in done.stderr and "forms: done in" in done.stderr
