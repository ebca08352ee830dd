"""`alignvec route`, and asking with the router that it makes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Command

from alignvec import models
from alignvec.steer.router import load_router
from alignvec.vectors.store import save_vector
from tests.conftest import preference_record


@pytest.fixture
def options(tiny_folder: Path, tmp_path: Path) -> list[Any]:
    """Two domains and an outside, told apart by their letters."""
    found: list[Any] = ["--model", tiny_folder, "--out", tmp_path / "router", "--layers", "1,2"]
    for domain, letter in (("medical", "a"), ("legal", "z")):
        records = [
            preference_record(i, split, domain) | {"query": letter * (i + 3), "persona": f"{domain} {i}"}
            for i, split in enumerate(["train"] * 8 + ["validation"] * 4)
        ]
        (tmp_path / f"{domain}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        found += ["--data", tmp_path / f"{domain}.jsonl"]
    lines = [{"query": "0" * (i + 3), "split": "train" if i < 8 else "validation"} for i in range(12)]
    (tmp_path / "outside.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [*found, "--outside", tmp_path / "outside.jsonl"]


def test_a_router_is_trained_and_turns_a_knob_by_the_question(
    command: Command, options: list[Any], tiny: models.BaseModel, make_vector: Any, tmp_path: Path
) -> None:
    done = command("route", *options, "--json")
    assert done.code == 0, done.err
    measured = json.loads(done.out)
    assert measured["reports"]["validation"]["right"] >= 0.9
    router = load_router(tmp_path / "router")
    assert router.card.domains == ("medical", "legal") and router.card.measured == measured

    save_vector(make_vector("medical", scale=0.3), tmp_path / "medical")
    rest = ["--model", tiny.folder, "--vectors", tmp_path / "medical", "--max-new-tokens", 4, "--json"]
    for question in ("aaaaaaa", "zzzzzzz"):
        asked = command("ask", question, "--knob", "medical=1", "--router", tmp_path / "router", *rest)
        assert asked.code == 0, asked.err
        turned = json.loads(asked.out)["replies"][0]["knobs"]["medical"]
        assert turned == pytest.approx(router.probabilities(tiny, [question])[0, 0])
        assert (turned > 0.5) == (question[0] == "a") and f"medical {turned:.2f}" in asked.err
        plain = command("ask", question, "--knob", f"medical={turned!r}", *rest)
        assert json.loads(plain.out)["replies"] == json.loads(asked.out)["replies"]


def test_the_table_tells_what_is_found_and_what_is_mistaken(command: Command, options: list[Any]) -> None:
    done = command("route", *options)
    assert done.code == 0 and "false alarms" in done.out and "validation: all right for" in done.out
    assert re.findall(r"validation +(medical|legal) ", done.out) == ["medical", "legal"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"--layers": "0"}, "numbers from 1 to 2"),
        ({"--layers": "x"}, "numbers from 1 to 2"),
        ({"--outside": "nowhere.jsonl"}, "cannot read nowhere.jsonl"),
        ({"--outside": "damaged.jsonl"}, "damaged.jsonl:1: query"),
        ({"--outside": "empty.jsonl"}, "no prompts with split=train"),
    ],
)
def test_what_cannot_be_is_told(
    command: Command, options: list[Any], change: dict[str, str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "damaged.jsonl").write_text('{"prompt": "x"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    for name, value in change.items():
        options[options.index(name) + 1] = tmp_path / value if value in ("damaged.jsonl", "empty.jsonl") else value
    done = command("route", *options)
    assert done.code == 2 and told in done.err and not (tmp_path / "router").exists()


def test_the_shipped_prompts_are_whole() -> None:
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.solve.routing import SHIPPED, load_prompts

    counts = {split: len(load_prompts(SHIPPED / "outside.jsonl", split)) for split in ("train", "validation")}
    assert counts == {"train": 180, "validation": 40}
    mixed = load_prompts(SHIPPED / "mixed.jsonl")
    assert len(mixed) == 60 and {len(prompt.domains) for prompt in mixed} == {2, 3}
    general = {row.query for row in load_rows(shipped_file("general"))}
    texts = [p.text for p in load_prompts(SHIPPED / "outside.jsonl")] + [p.text for p in mixed]
    assert len(set(texts)) == 280 and not general & set(texts)
    assert np.mean([len(text) for text in texts]) > 40
