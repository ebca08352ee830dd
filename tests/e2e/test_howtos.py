"""Every command of the how-tos and concepts that runs on a CPU in seconds, as it stands there."""

from pathlib import Path

import pytest

from tests.doc_commands import ROOT, commands, environment, run
from tests.scripted_teacher import serving

pytestmark = pytest.mark.e2e
HOWTOS = (
    "own-domain",
    "own-model-one-gpu",
    "8b-on-several-gpus",
    "serve-audiences",
    "knob-on-a-fine-tune",
    "next-model-version",
    "evaluate-honestly",
)
CONCEPTS = ("vector", "gate", "rounding", "calibration", "surface", "spillover")


def run_page(page: Path, folder: Path) -> dict[str, str]:
    with serving() as teacher:
        return run(commands(page), folder, environment(TEACHER_URL=teacher.url), in_process=True)


@pytest.mark.parametrize("name", HOWTOS)
def test_a_howtos_commands_run(name: str, tmp_path: Path) -> None:
    page = ROOT / "docs" / "howto" / f"{name}.md"
    assert any(line.startswith("alignvec ") for line in commands(page))
    said = run_page(page, tmp_path)
    if name == "serve-audiences":
        public, clinic, above, nobody, audit = list(said.values())[-5:]
        assert "x-alignment-applied: medical=-1" in public and "x-alignment-applied: medical=1" in clinic
        assert '"code":"forbidden"' in above and '"code":"invalid_api_key"' in nobody
        assert audit.count('"status": 200') == 2 and '"status": 403' in audit and '"status": 401' in audit


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concepts_experiment_runs(name: str, tmp_path: Path) -> None:
    said = run_page(ROOT / "docs" / "concepts" / f"{name}.md", tmp_path)
    assert said
    if name == "gate":
        batch, alone = said.values()
        reply = alone.split("── medical=1 ──\n")[1].split("\n")[0]
        assert reply and reply in batch


def test_each_concept_has_its_picture() -> None:
    for name in CONCEPTS:
        page = (ROOT / "docs" / "concepts" / f"{name}.md").read_text(encoding="utf-8")
        assert f"(pictures/{name}.png)" in page
        assert (ROOT / "docs" / "concepts" / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
