"""`alignvec safety` on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told

from alignvec.data.preference_sets import import_pairs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import save_router
from alignvec.vectors.store import save_vector
from tests.serve.routers import SURE, router_of


@pytest.fixture
def options(make_vector: Any, tiny_folder: Path, tmp_path: Path) -> list[Any]:
    save_vector(make_vector("safety", scale=0.3), tmp_path / "vectors" / "safety")
    save_vector(make_vector("medical", scale=0.3, seed=1), tmp_path / "vectors" / "medical")
    return ["--model", tiny_folder, "--limit", 2, "--max-new-tokens", 4, "--split", "validation"]


def short(tmp_path: Path) -> Path:
    """Safety rows that fit the tiny model."""
    rows = [
        {
            "id": f"{split}-{kind}-{i}", "split": split, "kind": kind, "topic": "t", "query": f"{kind} {i}?",
            "responses": {"safe": f"I will not do {i}, sorry.", "unsafe": f"Sure, take {i} of them."}
            if kind == "harmful" else {"safe": f"Sure, use {i} cups.", "unsafe": f"I will not say {i}, sorry."},
        }
        for split in ("train", "validation", "test") for kind in ("harmful", "benign") for i in range(4)
    ]  # fmt: skip
    path = tmp_path / "short.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_knob_is_measured_over_lambda_and_goes_on_from_its_journal(
    command: Command, options: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = short(tmp_path)
    given = [tmp_path / "vectors" / "safety", *options, "--data", data, "--judge", data, "--lambda=-1,0,1"]
    given += ["--out", tmp_path / "out"]
    done = command("safety", *given, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [point["knobs"] for point in found["points"]] == [{}, {"safety": -1.0}, {"safety": 1.0}]
    assert {kind: one["queries"] for kind, one in found["points"][0]["kinds"].items()} == {"harmful": 2, "benign": 2}
    assert found["points"][0]["kinds"]["harmful"]["margin"]["value"] == 0.0
    assert found["points"][1]["kinds"]["harmful"]["margin"]["value"] != 0.0
    assert found["judge"]["trained_on"] == 16 and found["judge"]["accuracy"]["value"] == 1.0
    assert found["data"] == "short.jsonl validation, first 2 of each"
    files = {"safety.json", "safety.png", "replies.jsonl", "replies.md", "journal.jsonl"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    monkeypatch.setattr(KnobbedModel, "score", None)
    monkeypatch.setattr(KnobbedModel, "generate", None)
    again = command("safety", *given)
    assert again.code == 0, again.err
    assert "refusal judge: 1.00" in again.out and "safety=-1" in again.out and "…" not in again.out
    other = command("safety", *given, "--seed", 1)
    assert_told(other, "holds results of other vectors, data or settings")


def test_settings_of_several_knobs_and_a_domain(command: Command, options: list[Any], tmp_path: Path) -> None:
    places = [tmp_path / "vectors" / name for name in ("safety", "medical")]
    data = short(tmp_path)
    domain = tmp_path / "domain.jsonl"
    domain.write_text(
        "".join(
            json.dumps(
                {
                    "id": f"d{split}{i}", "split": split, "domain": "tea", "topic": "t", "persona": f"{split} {i}",
                    "query": f"Tea {i}?",
                    "responses": {"avoidance": f"Please ask {i}.", "generic": f"Drink {i}.", "expert": f"Brew {i}."},
                }
            ) + "\n"
            for split in ("train", "validation", "test") for i in range(3)
        )
    )  # fmt: skip
    done = command(
        "safety", *places, *options, "--data", data, "--domain", domain, "--knob", "safety=1,medical=-0.5",
        "--knob", "medical=expert", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [p["knobs"] for p in found["points"]] == [{}, {"safety": 1.0, "medical": -0.5}, {"medical": 1.0}]
    assert all(p["domains"]["tea"]["replied"]["queries"] == 2 for p in found["points"])
    assert found["levels"] == ["avoidance", "generic", "expert"] and found["level_judge"]["held_out"] == 9


def test_a_router_is_asked_for_each_query(command: Command, options: list[Any], tiny: Any, tmp_path: Path) -> None:
    save_router(router_of(tiny, medical=-SURE), tmp_path / "router")
    given = [*(tmp_path / "vectors" / name for name in ("safety", "medical")), *options, "--data", short(tmp_path)]
    given += ["--generate", 0, "--knob", "safety=1", "--knob", "safety=1,medical=1", "--json"]

    def margins(*more: Any) -> tuple[bool, list[float]]:
        done = command("safety", *given, *more)
        assert done.code == 0, done.err
        found = json.loads(done.out)
        return found["routed"], [point["kinds"]["harmful"]["margin"]["value"] for point in found["points"]]

    routed, (_, alone, both) = margins("--router", tmp_path / "router")
    assert routed and alone == both != 0.0
    routed, (_, alone, both) = margins()
    assert not routed and alone != both
    assert_told(command("safety", *given, "--router", tmp_path / "none"), "no router", tmp_path / "none")


def test_imported_sets_are_measured_without_a_kind_of_their_own(
    command: Command, options: list[Any], tmp_path: Path
) -> None:
    files = []
    for name in ("harmless", "helpful"):
        records = [
            {
                "chosen": f"\n\nHuman: {name} {i}?\n\nAssistant: No {i}.",
                "rejected": f"\n\nHuman: {name} {i}?\n\nAssistant: Yes.",
            }
            for i in range(60)
        ]
        raw = tmp_path / f"{name}-raw.jsonl"
        raw.write_text("".join(json.dumps(record) + "\n" for record in records))
        files.append(tmp_path / f"{name}.jsonl")
        import_pairs(raw, files[-1], tmp_path / "rest.jsonl", domain=name)
    done = command(
        "safety", tmp_path / "vectors" / "safety", *options, "--data", files[0], "--benign", files[1], "--generate", 0,
        "--lambda", "1", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["judge"] is None
    assert {kind: one["queries"] for kind, one in found["points"][1]["kinds"].items()} == {"harmful": 2, "benign": 2}


def test_mistakes_are_told_before_the_model_is_loaded(command: Command, tmp_path: Path, make_vector: Any) -> None:
    save_vector(make_vector("safety"), tmp_path / "v")
    gone = ["--model", tmp_path / "no model"]
    assert_told(command("safety", tmp_path / "none", *gone), "no vectors in", tmp_path / "none")
    assert_told(command("safety", tmp_path / "v", "--knob", "legal=1", *gone), "no vector named 'legal'")
    assert_told(command("safety", tmp_path / "v", "--lambda", "nan", *gone), "must be finite")
    assert_told(command("safety", tmp_path / "v", "--data", tmp_path / "no.jsonl", *gone), "no file at")
    assert_told(command("safety", tmp_path / "v", "--domain", "cooking", *gone), "no shipped data for domain 'cooking'")
