"""Every command of the longer tour runs, as it stands there."""

from pathlib import Path

import pytest

from tests.doc_commands import ROOT, commands, environment, run
from tests.scripted_teacher import serving

pytestmark = pytest.mark.e2e


def test_the_tours_commands_run(tmp_path: Path) -> None:
    with serving() as teacher:
        said = run(commands(ROOT / "docs" / "tour.md"), tmp_path, environment(TEACHER_URL=teacher.url))
    assert len(said) > 15
