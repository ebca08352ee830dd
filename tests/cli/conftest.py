"""The command line in this process; a file whose commands need another place has a fixture of its own."""

from pathlib import Path

import pytest
from running import Command, prepared


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> Command:
    assert tiny_folder.is_dir()  # made before the capture begins
    return prepared(monkeypatch, capfd, tmp_path)
