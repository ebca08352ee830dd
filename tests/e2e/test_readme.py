"""Every command of the README runs, as it stands there."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_teacher import serving

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
LONG = ("make ", "alignvec demo")
"""Checked for being real targets and commands; run by `make demo` and by the test runner itself."""


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in text.split("```sh\n")[1:]]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(("#", "git ", "cd "))]


def test_the_readme_has_commands() -> None:
    assert any(line.startswith("alignvec ask") for line in commands())
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in commands():
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in targets


def test_the_readmes_commands_run(tmp_path: Path) -> None:
    for name in ("vectors", "recipes", "data", "routers"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    port = free_port()
    with serving() as teacher, ExitStack() as running:
        environment = {**os.environ, "PATH": path, "COLUMNS": "160", "TEACHER_URL": teacher.url}
        for line in (command.replace("8000", str(port)) for command in commands()):
            if line.startswith(LONG):
                continue
            if line.startswith("alignvec serve "):
                running.enter_context(server(line, port, cwd=tmp_path, env=environment))
                continue
            done = subprocess.run(
                line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
            assert done.stdout.strip(), f"{shlex.split(line)[:2]} printed nothing"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def server(line: str, port: int, **settings: Any) -> Iterator[None]:
    """A server of the README, which ends well when it is told to."""
    running = subprocess.Popen(shlex.split(line), stderr=subprocess.PIPE, text=True, **settings)
    try:
        assert running.stderr is not None
        assert any(f"serving http://127.0.0.1:{port}" in said for said in running.stderr)
        yield
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.communicate()


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
