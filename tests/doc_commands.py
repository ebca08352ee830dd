"""Commands as a page of the documentation shows them, to be run as they stand there.

In a block of `sh` a command is a line, with the lines that a backslash or a here-document joins to it.
`export NAME=value` holds for the commands after it; comments, `cd` and `git` are left out.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SILENT = ("cat >", "mkdir ", "cp ", "sleep ")
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
        if here := re.search(r"<<'(\w+)'", line):
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
    lines: Sequence[str], folder: Path, settings: dict[str, str], *, skip: Callable[[str], bool] = lambda line: False
) -> dict[str, str]:
    """Run commands in a folder that has the project's data, vectors, recipes and configs.

    Each has to end well and to print something. `alignvec serve` goes on until the last command has ended, on a free
    port in place of 8000. A line that ends in `# exit 2` is a mistake on purpose, which has to end so and say why.

    Args:
        lines: the commands, of `commands`.
        folder: an empty one.
        settings: the environment, of `environment`.
        skip: names commands that are not run.

    Returns:
        What each command printed, stdout and stderr.
    """
    for name in ("vectors", "recipes", "data", "routers", "configs"):
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
            elif line.startswith("alignvec serve "):
                running.enter_context(server(line, port, cwd=folder, env=settings))
            else:
                said[shown] = _run(line, cwd=folder, env=settings)
    return said


def _run(line: str, **settings: Any) -> str:
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, **settings)
    wanted = 2 if line.endswith("# exit 2") else 0
    assert done.returncode == wanted, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
    if not line.startswith(SILENT):
        assert (done.stderr if wanted else done.stdout).strip(), f"{shlex.split(line)[:2]} printed nothing"
    return done.stdout + done.stderr


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def server(line: str, port: str, **settings: Any) -> Iterator[None]:
    """A server of a page, which ends well when it is told to."""
    running = subprocess.Popen(shlex.split(line), stderr=subprocess.PIPE, text=True, **settings)
    try:
        assert running.stderr is not None
        assert any(re.search(rf"serving http://[\d.]+:{port}", said) for said in running.stderr)
        yield
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.communicate()
