"""Commands under `accelerate launch`: processes split the work of some, and only the main one is heard."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import typer

from alignvec import processes

SHARED = {
    *("sweep", "calibrate", "spillover", "capability", "safety", "transfer", "solve", "check-goals"),
    *("train", "keep", "compress"),
}
"""Commands whose work is split; any other the main process does by itself."""


def share_or_leave(context: typer.Context) -> None:
    """Called before a command: of one that cannot be split only the main process goes on."""
    if context.invoked_subcommand not in SHARED:
        leave_to_main()


def leave_to_main() -> None:
    """Let only the main process go on, for work that cannot be split."""
    if processes.count() > 1:
        if not processes.is_main():
            raise typer.Exit
        processes.leave()


@contextmanager
def one_voice() -> Iterator[None]:
    """Keep processes other than the main one silent, and let only the first that fails tell why."""
    if processes.count() == 1:
        yield
        return
    heard = processes.is_main()
    with Path(os.devnull).open("w") as nowhere:
        try:
            out, err = (sys.stdout, sys.stderr) if heard else (nowhere, io.StringIO())
            with redirect_stdout(out), redirect_stderr(err):
                yield
        except Exception:
            if not processes.first_to_fail():
                sys.exit(2)
            raise
