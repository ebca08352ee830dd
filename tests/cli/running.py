"""Runs the command line in this process, as `alignvec` would run it."""

import io
import sys
from dataclasses import dataclass

import pytest

from alignvec.cli.app import main


@dataclass(frozen=True)
class Done:
    """What a command left behind: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines of stderr that tell a user's mistake."""
        return [line for line in self.err.splitlines() if line.lower().startswith("error:")]


@dataclass(frozen=True)
class Command:
    """Calls `main` with arguments and input, capturing what it prints."""

    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, stdin: str = "") -> Done:
        self.capture.readouterr()
        code = 0
        with self.monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["alignvec", *map(str, arguments)])
            patched.setattr(sys, "stdin", io.StringIO(stdin))
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = self.capture.readouterr()
        return Done(code, out, err)
