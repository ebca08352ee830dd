"""Every command of the quickstart runs, as it stands there."""

from pathlib import Path

import pytest

from tests.doc_commands import ROOT, commands, environment, run

pytestmark = pytest.mark.e2e
PAGE = ROOT / "docs" / "quickstart.md"
INSTALLING = ("make ", "source ", "pip ", "alignvec shipped ")
"""What has been done where tests run; the tests of the package do it in an environment of its own."""
TRAIN = "alignvec train recipes/first/manner.yaml --out runs/manner"
SHORT = " --limit 2 --epochs 1"
"""What the training of a test has less than the page's, which takes minutes."""


def test_the_quickstarts_commands_run(tmp_path: Path) -> None:
    lines = commands(PAGE)
    assert TRAIN in lines
    shortened = [line + SHORT if line == TRAIN else line for line in lines]
    said = run(shortened, tmp_path, environment(), skip=lambda line: line.startswith(INSTALLING))
    curl = next(text for line, text in said.items() if line.startswith("curl "))
    assert '"applied":{"manner":-1.0}' in curl
    sweep = next(text for line, text in said.items() if line.startswith("alignvec sweep "))
    assert "manner: level of the generated replies, by the judge (2 queries)" in sweep


def test_the_row_of_the_quickstart_is_in_its_data() -> None:
    row = PAGE.read_text(encoding="utf-8").partition("```json\n")[2].partition("\n```")[0]
    assert row in (ROOT / "recipes" / "first" / "manner.jsonl").read_text(encoding="utf-8").splitlines()
