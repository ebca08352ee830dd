"""Every command of the README runs, as it stands there."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.doc_commands import ROOT, commands, environment, run

pytestmark = pytest.mark.e2e
README = ROOT / "README.md"
LONG = ("make ", "alignvec demo")
"""Checked for being real targets and commands; run by `make demo` and by the test runner itself."""


def test_the_readme_has_commands() -> None:
    assert any(line.startswith("alignvec ask") for line in commands(README))
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in commands(README):
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in targets


def test_the_readmes_commands_run(tmp_path: Path) -> None:
    run(commands(README), tmp_path, environment(), skip=lambda line: line.startswith(LONG))


def test_the_demo_answers_measures_and_draws(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alignvec.cli.app", "demo", "--limit", "1", "--max-new-tokens", "12"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for word in (
        "avoidance (λ = ",
        "generic (λ = ",
        "expert (λ = ",
        "medical: likeliest of the reference replies",
        "medical: level of the generated",
        "judge:",
    ):
        assert word in done.stdout
    picture = tmp_path / "demo.png"
    assert done.stdout.strip().endswith(f"picture: {picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
