"""Runs the command line in this process, as `alignvec` would run it."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from alignvec import demo_model
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


def prepared(monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], folder: Path) -> Command:
    """The command line with a cache in `folder`, a regular file `folder/file`, and no way to the demo model."""
    (folder / "file").write_text("mine")
    monkeypatch.setenv("ALIGNVEC_CACHE", str(folder / "cache"))
    monkeypatch.setattr(demo_model, "_ensure_gguf", lambda _: pytest.fail("the demo model was asked for"))
    return Command(monkeypatch, capture)


def assert_told(done: Done, *parts: object) -> None:
    """Exit code 2, nothing on stdout, one error line that holds all parts, and no traceback."""
    assert (done.code, done.out) == (2, ""), done
    assert "Traceback" not in done.err, done.err
    assert len(done.errors) == 1, done.err
    missing = [str(part) for part in parts if str(part) not in done.errors[0]]
    assert not missing, f"{missing} not in {done.errors[0]}"
