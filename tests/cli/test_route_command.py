"""`alignvec route`, and asking with the router that it makes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from running import Command

from alignvec import models
from alignvec.steer.router import acting, load_router
from alignvec.vectors.store import save_vector
from tests.conftest import preference_record


@pytest.fixture
def options(tiny_folder: Path, tmp_path: Path) -> list[Any]:
    """Two domains and an outside, told apart by their letters."""
    found: list[Any] = ["--model", tiny_folder, "--out", tmp_path / "router", "--layers", "1,2"]
    for domain, letter in (("medical", "a"), ("legal", "z")):
        records = [
            preference_record(i, split, domain) | {"query": letter * (i + 3), "persona": f"{domain} {i}"}
            for i, split in enumerate(["train"] * 8 + ["validation"] * 4 + ["test"] * 2)
        ]
        (tmp_path / f"{domain}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        found += ["--data", tmp_path / f"{domain}.jsonl"]
    lines = [{"query": "0" * (i + 3), "split": "train" if i < 8 else "validation"} for i in range(12)]
    (tmp_path / "outside.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [*found, "--prompts", tmp_path / "outside.jsonl"]


def test_a_router_is_trained_and_turns_a_knob_by_the_question(
    command: Command, options: list[Any], tiny: models.BaseModel, make_vector: Any, tmp_path: Path
) -> None:
    done = command("route", *options, "--json")
    assert done.code == 0, done.err
    measured = json.loads(done.out)
    assert measured["reports"]["validation queries"]["right"] >= 0.9
    router = load_router(tmp_path / "router")
    assert router.card.domains == ("medical", "legal") and router.card.measured == measured

    save_vector(make_vector("medical", scale=0.3), tmp_path / "medical")
    rest = ["--model", tiny.folder, "--vectors", tmp_path / "medical", "--max-new-tokens", 4, "--json"]
    for question in ("aaaaaaa", "zzzzzzz"):
        asked = command("ask", question, "--knob", "medical=1", "--router", tmp_path / "router", *rest)
        assert asked.code == 0, asked.err
        turned = json.loads(asked.out)["replies"][0]["knobs"]["medical"]
        probability = router.probabilities(tiny, [question])[0, 0]
        assert turned == pytest.approx(acting(probability, router.card.ramp))
        assert (turned > 0.5) == (question[0] == "a") and f"medical {probability:.2f}" in asked.err
        plain = command("ask", question, "--knob", f"medical={turned!r}", *rest)
        (got,), (alone,) = (json.loads(done.out)["replies"] for done in (asked, plain))
        assert (got["knobs"], got["reply"]) == (alone["knobs"], alone["reply"])
        assert (got["asked"], alone["asked"]) == ({"medical": 1.0}, {"medical": turned})
        shown = command("ask", question, "--knob", "medical=1", "--router", tmp_path / "router", *rest[:-1])
        head = "medical=1" if round(turned, 2) == 1 else f"medical=1 → medical={round(turned, 2):g}"
        assert shown.out.startswith(f"── {head} ──\n")
        assert json.loads(asked.out)["routed"].keys() == {"medical", "legal"} and "routed" not in json.loads(plain.out)

    talk = command(
        "chat", "--knob", "medical=1", "--router", tmp_path / "router", *rest[:-1], stdin="aaaaaaa\nzzzzzzz\n"
    )
    assert talk.code == 0, talk.err
    told = [line for line in talk.err.splitlines() if line.startswith("routed: medical ")]
    last = router.probabilities(tiny, ["zzzzzzz"])[0]
    read = "zzzzzzz" if last.max() >= 0.5 else "aaaaaaa\nzzzzzzz"
    first, second = (router.probabilities(tiny, [text])[0, 0] for text in ("aaaaaaa", read))
    assert [line.split()[2] for line in told] == [f"{first:.2f},", f"{second:.2f},"]
    nowhere = command("chat", "--router", tmp_path / "nowhere", *rest[:-1])
    assert nowhere.code == 2 and "no router in" in nowhere.err


def test_the_table_tells_what_is_found_and_what_is_mistaken(command: Command, options: list[Any]) -> None:
    done = command("route", *options)
    assert done.code == 0 and "false alarms" in done.out and "validation queries: all right for" in done.out
    assert re.findall(r"validation queries +(medical|legal) ", done.out) == ["medical", "legal"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"--layers": "0"}, "numbers from 1 to 2"),
        ({"--layers": "x"}, "numbers from 1 to 2"),
        ({"--prompts": "nowhere.jsonl"}, "no file at nowhere.jsonl"),
        ({"--prompts": "damaged.jsonl"}, "damaged.jsonl:3: query"),
        ({"--prompts": "empty.jsonl"}, "the file is empty"),
        ({"--prompts": "elsewhere.jsonl"}, "no prompts with split=train"),
    ],
)
def test_what_cannot_be_is_told(
    command: Command, options: list[Any], change: dict[str, str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "damaged.jsonl").write_text('{"query": "x"}\n\n{"prompt": "x"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "elsewhere.jsonl").write_text('{"query": "x", "split": "test"}\n')
    for name, value in change.items():
        options[options.index(name) + 1] = (
            tmp_path / value if value in ("damaged.jsonl", "empty.jsonl", "elsewhere.jsonl") else value
        )
    done = command("route", *options)
    assert done.code == 2 and told in done.err and not (tmp_path / "router").exists()


def test_files_of_one_name_and_prompts_of_an_unknown_domain_are_all_used(
    command: Command, options: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 3
    lines = [{"query": "9" * (i + 3), "split": split, "domains": ["cooking"]} for i, split in enumerate(splits)]
    own = [{"query": "a" * (i + 20), "split": split, "domain": "medical"} for i, split in enumerate(splits)]
    for name, some in (("more/outside", lines), ("queries", own)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in some))
    files = [tmp_path / "more" / "outside.jsonl", tmp_path / "queries.jsonl"]
    done = command("route", *options, *(part for file in files for part in ("--prompts", file)), "--test", "--json")
    assert done.code == 0, done.err
    assert done.err.splitlines()[-1].startswith("prompts of cooking count as outside")
    reports = json.loads(done.out)["reports"]
    assert {name: one["prompts"] for name, one in reports.items()} == {
        "validation queries": 8,
        "validation queries (prompts)": 2,
        "validation outside": 4 + 2,
        "test queries": 4,
        "test queries (prompts)": 3,
        "test outside": 3,
    }
    assert reports["validation outside"]["recall"] == {} and reports["test queries (prompts)"]["recall"].keys() == {
        "medical"
    }
    assert load_router(tmp_path / "router").card.domains == ("medical", "legal")


def test_the_shipped_prompts_are_whole() -> None:
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.solve.routing import FURTHER, SHIPPED, load_prompts

    counts = {path.stem: [len(load_prompts(path, split)) for split in ("train", "validation")] for path in FURTHER}
    assert counts == {"outside": [180, 40], "short": [180, 48], "several": [72, 24]}
    short, several, mixed = (load_prompts(SHIPPED / f"{name}.jsonl") for name in ("short", "several", "mixed"))
    assert len(load_prompts(SHIPPED / "short.jsonl", "test")) == 48 and len(short) == 276
    assert max(len(prompt.text.split()) for prompt in short) <= 14
    assert len(mixed) == 60 and {len(prompt.domains) for prompt in (*several, *mixed)} == {2, 3}
    general = {row.query for row in load_rows(shipped_file("general"))}
    texts = [p.text for path in FURTHER for p in load_prompts(path)] + [p.text for p in mixed]
    assert len(set(texts)) == 220 + 276 + 96 + 60 and not general & set(texts)
