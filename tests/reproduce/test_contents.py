"""What a result is known to be made from: files by their bytes, cards by what they decide."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.reproduce.place import Place, contents
from alignvec.reproduce.scale import Scale
from alignvec.reproduce.stages import STAGES

ROUTER = {"base": "b", "domains": ["a"], "layers": [1], "ramp": [0.2, 0.5], "measured": {"right": 0.9}}
CARD = {"form": "hinged", "settings": {"expert": 1.0}, "calibration": None, "licence": "MIT"}


def digest(folder: Path, name: str, card: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(card if isinstance(card, str) else json.dumps(card))
    return contents([folder])


@pytest.mark.parametrize(
    ("name", "card", "decides", "measured"),
    [
        ("router.json", ROUTER, {"ramp": [0.0, 1.0]}, {"measured": {"right": 1.0}}),
        ("card.json", CARD, {"settings": {"expert": 1.5}}, {"calibration": {"points": []}}),
    ],
)
def test_a_card_counts_by_what_it_decides(
    tmp_path: Path, name: str, card: dict[str, Any], decides: dict[str, Any], measured: dict[str, Any]
) -> None:
    first = digest(tmp_path, name, card)
    assert digest(tmp_path, name, card | measured) == first != digest(tmp_path, name, card | decides)
    assert len({digest(tmp_path, name, text) for text in ("", "[", "[]", "{}")}) == 4  # damaged ones count as they are


def test_rows_and_tensors_count_by_their_bytes_and_other_files_not_at_all(tmp_path: Path) -> None:
    first = digest(tmp_path, "rows.jsonl", "1")
    assert digest(tmp_path, "README.md", "words") == first
    assert digest(tmp_path, "rows.jsonl", "2") != first
    assert contents([tmp_path / "none"]) != contents([])


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [
        ("capability", ("choices.jsonl", "instructions.jsonl")),
        ("methods", ("choices.jsonl", "medical.yaml", "legal.yaml", "financial.yaml")),
        ("inference", ("medical.yaml",)),
    ],
)
def test_stages_know_the_items_and_instructions_that_they_read(
    tmp_path: Path, stage: str, wanted: tuple[str, ...]
) -> None:
    place = Place(Scale(), tmp_path, lambda *_: None)
    read = list(STAGES[stage].reads(place))
    assert {path.name for path in read} >= set(wanted) and all(path.is_file() for path in read)
