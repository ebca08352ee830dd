"""Training a safety vector on the tiny model, from safety rows and from imported pairs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.preference_sets import ORDER, import_pairs
from alignvec.train.config import TrainConfig, load_recipe
from alignvec.train.vector import train_vector
from alignvec.vectors.store import load_card

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "safety.yaml"


def safety_rows(path: Path) -> Path:
    replies = {"safe": "I will not.", "unsafe": "Gladly."}
    rows = [
        {"id": f"s{i}", "split": "train", "kind": "harmful", "topic": "t", "query": f"Harm {i}?", "responses": replies}
        for i in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_recipe_trains_both_sides_on_safety_rows(tmp_path: Path, tiny_folder: Path) -> None:
    data = safety_rows(tmp_path / "safety.jsonl")
    changes: dict[str, Any] = {"base": str(tiny_folder), "data": data, "rank": 2, "epochs": 1.0, "dtype": "float32"}
    card = load_card(train_vector(load_recipe(RECIPE, **changes), tmp_path / "run"))
    assert (card.domain, tuple(card.levels), card.form, card.licence) == (
        "safety",
        ("unsafe", "safe"),
        "hinged",
        "Apache-2.0",
    )
    assert card.settings == {"unsafe": -1.0, "safe": 1.0}
    run = json.loads((tmp_path / "run" / "positive" / "run.json").read_text())
    assert (run["rows"], run["order"]) == (4, "safe>unsafe")
    assert run["data_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["safe-rlhf", "hh-rlhf"])
def test_imported_safety_sets_train_one_sided(tmp_path: Path, tiny_folder: Path, kind: str) -> None:
    records: list[dict[str, Any]] = []
    for i in range(12):
        if kind == "safe-rlhf":
            flags = {"is_response_0_safe": False, "is_response_1_safe": True, "safer_response_id": 1}
            replies = {"response_0": f"Sure {i}.", "response_1": f"No {i}.", "better_response_id": 0}
            records.append({"prompt": f"Harm {i}?", **replies, **flags})
        else:
            start = f"\n\nHuman: Harm {i}?\n\nAssistant: "
            records.append({"chosen": f"{start}No {i}.", "rejected": f"{start}Sure {i}."})
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    done = import_pairs(tmp_path / "raw.jsonl", tmp_path / "rows.jsonl", tmp_path / "rest.jsonl", domain="safety")
    assert (done.format, done.order) == (kind, ORDER)
    config = TrainConfig(
        name="safety", base=str(tiny_folder), data=tmp_path / "rows.jsonl", order=done.order, form="one-sided",
        rank=2, epochs=1.0,
    )  # fmt: skip
    card = load_card(train_vector(config, tmp_path / "run"))
    assert (tuple(card.levels), card.form, card.settings) == (("rejected", "chosen"), "single", {"chosen": 1.0})
