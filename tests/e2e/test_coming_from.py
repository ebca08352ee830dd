"""The pages for users of mergekit and repeng: their commands run, and give what the pages show."""

from pathlib import Path

import pytest

from tests.doc_commands import ROOT, commands, environment, run

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("name", ["from-mergekit", "from-repeng"])
def test_the_pages_commands_run(name: str, tmp_path: Path) -> None:
    page = ROOT / "docs" / "howto" / f"{name}.md"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    said = run(commands(page), tmp_path, environment(), in_process=True)
    text = page.read_text(encoding="utf-8")
    if name == "from-mergekit":
        printed = said["alignvec merge out/mk/recipe.yaml --out out/mk/ours"] + said[list(said)[-2]]
        shown = [line for line in text.splitlines() if line.startswith(("knob  ", "medical  ", "legal  ", "  tensors"))]
        assert len(shown) == 4
        assert all(line.rstrip() in printed for line in shown)
    else:
        asked, imported = list(said.values())[-2:]
        assert asked.strip().startswith("8 pairs in out/pairs.jsonl; 0 left out")
        assert imported.strip() in text
