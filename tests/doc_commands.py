"""Commands as a page of the documentation shows them, to be run as they stand there.

In a block of `sh` a command is a line, with the lines that a backslash or a here-document joins to it.
`export NAME=value` holds for the commands after it; comments, `cd` and `git` are left out. Other blocks are not run.
"""

import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("vectors", "recipes", "data", "routers", "configs", "benchmarks", "docs")
SILENT = ("cat >", "mkdir ", "cp ", "sed ", "sleep ")
"""Commands of a page that print nothing when they are well."""

LEFT_OUT = ("#", "git ", "cd ")


def commands(page: Path) -> list[str]:
    """The commands of a page's `sh` blocks, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = [block.split("\n```")[0] for block in text.split("```sh\n")[1:]]
    return [line for block in blocks for line in _commands(block) if not line.startswith(LEFT_OUT)]


def _commands(block: str) -> Iterator[str]:
    lines = iter(block.replace("\\\n", " ").splitlines())
    for line in lines:
        if here := re.search(r"<<'?(\w+)", line):
            body = [line]
            while body[-1] != here[1]:
                body.append(next(lines))
            yield "\n".join(body)
        elif line.strip():
            yield line.strip()


def environment(**more: str) -> dict[str, str]:
    """This process's environment with `alignvec` on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "160", **more}


def run(
    lines: Sequence[str],
    folder: Path,
    settings: dict[str, str],
    *,
    skip: Callable[[str], bool] = lambda line: False,
    in_process: bool = False,
) -> dict[str, str]:
    """Run commands in a folder that has the project's data, vectors, recipes and configs.

    Each has to end well and to print something. `alignvec serve` goes on until the last command has ended, on a free
    port in place of 8000. A line that ends in `# exit 2` is a mistake on purpose, which has to end so and say why.

    Args:
        lines: the commands, of `commands`.
        folder: an empty one.
        settings: the environment, of `environment`.
        skip: names commands that are not run.
        in_process: call `alignvec` in this process where a line is nothing else, which saves seconds of imports.

    Returns:
        What each command printed, stdout and stderr.
    """
    for name in BESIDE:
        (folder / name).symlink_to(ROOT / name)
    port, said = str(free_port()), {}
    with ExitStack() as running:
        for shown in lines:
            line = shown.replace("8000", port)
            if skip(line):
                continue
            if line.startswith("export "):
                name, value = shlex.split(line)[1].split("=", 1)
                settings = {**settings, name: value}
            elif line.startswith("alignvec serve ") and "--print-command" not in line:
                running.enter_context(server(line, port, cwd=folder, env=settings))
            else:
                called = _call if in_process and _is_plain(line) else _run
                code, out, err = called(line, folder, settings)
                wanted = 2 if line.endswith("# exit 2") else 0
                assert code == wanted, f"{line}\n{out[-1000:]}\n{err[-2000:]}"
                assert line.startswith(SILENT) or (err if wanted else out).strip(), f"{line} printed nothing"
                said[shown] = out + err
    return said


def _run(line: str, folder: Path, settings: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(line, shell=True, cwd=folder, env=settings, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def _is_plain(line: str) -> bool:
    return line.startswith("alignvec ") and not any(sign in line for sign in "|<>&;*")


def _call(line: str, folder: Path, settings: dict[str, str]) -> tuple[int, str, str]:
    from alignvec.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, settings), chdir(folder), redirect_stdout(out), redirect_stderr(err):
        arguments = shlex.split(os.path.expandvars(line), comments=True)
        with mock.patch.object(sys, "argv", arguments):
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            else:
                code = 0
    return code, out.getvalue(), err.getvalue()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def server(line: str, port: str, *, cwd: Path, env: dict[str, str]) -> Iterator[None]:
    """A server of a page, which ends well when it is told to."""
    arguments = shlex.split(os.path.expandvars(line))
    running = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=cwd, env=env)
    try:
        assert running.stderr is not None
        assert any(re.search(rf"serving http://[\d.]+:{port}", said) for said in running.stderr)
        yield
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.communicate()
