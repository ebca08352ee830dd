"""The GPU benchmarks on the CPU with a tiny shape: they run, and refuse to time what does not do its work."""

import importlib.util
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alignvec.merge.inplace import InplaceKnob
from alignvec.steer.stacked import StackedLayers

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks/gpu"
OWN = ("shapes", "timing", "decode_mixed")
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a script as a program, on the CPU, and reads its line."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def call(name: str, *arguments: object) -> dict[str, Any]:
        given = [name, "--shape", "tiny", "--device", "cpu", "--rounds", "2", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", given)
        capsys.readouterr()
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert (found["benchmark"], found["config"]["shape"], found["device"]) == (name, "tiny", "cpu")
        return found

    yield call
    for name in OWN:
        sys.modules.pop(name, None)


def test_decoding(run: Run) -> None:
    shape = ("--ranks", 16, 32, "--prompt", 6, "--new-tokens", 3)
    found = run("decode_mixed", "--batches", 1, 3, *shape)
    results = found["results"]
    assert [(r["mode"], r["batch"], r["rank"]) for r in results] == [("eager", b, r) for b in (1, 3) for r in (16, 32)]
    for result in results:
        rates = result["tokens_per_second"], result["base_tokens_per_second"]
        assert result["mean_logit_change"] > 0
        low, high = (rates[0][one] / rates[1][other] for one, other in (("least", "most"), ("most", "least")))
        assert low * 0.999 <= result["ratio"]["least"] <= result["ratio"]["most"] <= high * 1.001


@pytest.mark.parametrize("script", ["decode_mixed", "profile_gate"])
def test_knobs_that_do_nothing_are_not_timed(run: Run, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(StackedLayers, "turn", lambda *_: None)
    with pytest.raises(SystemExit, match="changed nothing"):
        run(script)


def test_a_dense_turn(run: Run) -> None:
    found = run("knob_turn_dense")
    for result, size in zip(found["results"], (4, 2), strict=True):
        assert result["delta"] == f"{'b' * (size == 2)}float{8 * size}"
        moved = result["parameters"] * (2 + 2 + size)
        assert result["least_seconds"] * result["copy_gb_per_second"] * 1e9 == pytest.approx(moved, rel=0.05)
        assert result["ratio"]["median"] == pytest.approx(
            result["seconds"]["median"] / result["least_seconds"], rel=1e-6
        )


def test_a_dense_turn_with_a_rounded_coefficient_is_not_timed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = InplaceKnob.turn
    rounded = lambda knob, gates: turn(knob, [float(torch.tensor(g).bfloat16()) for g in gates])  # noqa: E731
    monkeypatch.setattr(InplaceKnob, "turn", rounded)
    with pytest.raises(SystemExit, match="not the rounded sum"):
        run("knob_turn_dense")


def test_the_profile_finds_the_side_path(run: Run) -> None:
    found = run("profile_gate", "--batch", 3, "--rank", 16, "--prompt", 6, "--steps", 2)
    assert found["launches"]["mixed"] > found["launches"]["base"]
    assert found["most_extra"]["aten::addmm_"]["calls"] == 2 * 7  # seven linear layers in each of two blocks
    assert found["fuse"] == (found["share"] > 0.05)


def test_scoring(run: Run) -> None:
    found = run("scoring_tokens", "--rank", 16, "--batch-tokens", 100, 800)
    assert [(r["rows"], r["tokens"]) for r in found["results"]] == [(1, 362), (2, 724)]


def test_training(run: Run) -> None:
    found = run("dpo_tokens", "--rank", 2, "--batch", 1)
    assert (found["steps"], found["tokens_a_step"]) == (2, 362)
    assert found["tokens_per_second"]["least"] > 0


def test_training_without_trl_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "trl" else there(name, *a))
    assert run("dpo_tokens")["skipped"].startswith("not installed: trl;")


def test_solving(run: Run) -> None:
    found = run("solve_27", "--rank", 1, "--queries", 1, "--settings", 22, "--budget", 24)
    assert found["goals"] == 27
    assert 23 <= found["settings_measured"] <= 24
    assert found["queries_scored"] == 3 * found["settings_measured"]
    assert found["seconds"]["total"] == pytest.approx(
        sum(found["seconds"][part] for part in ("scoring", "fitting", "searching")), abs=2e-3
    )


def test_all_goes_on_where_it_was_and_tells_what_failed(tmp_path: Path) -> None:
    (tmp_path / "scoring_tokens-tiny.json").write_text("measured before\n")
    command = [sys.executable, str(SCRIPTS / "run.py"), "--shapes", "tiny", "--out", str(tmp_path)]
    wanted = ["--only", "scoring_tokens", "knob_turn_dense"]
    done = subprocess.run([*command, *wanted, "--rounds", "0"], capture_output=True, text=True, check=False)
    told = json.loads(done.stderr.strip().splitlines()[-1])
    assert (done.returncode, told["failed"], told["left"]) == (1, ["knob_turn_dense tiny"], [])  # no round: no median
    done = subprocess.run([*command, *wanted, "--rounds", "2"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads((tmp_path / "knob_turn_dense-tiny.json").read_text())
    assert (tmp_path / "scoring_tokens-tiny.json").read_text() == "measured before\n"
    done = subprocess.run([*command, "--limit", "0"], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stderr.strip().splitlines()[-1])["left"]) == 4
