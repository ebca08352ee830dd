"""The scripts of examples/ run on the tiny model and print what they say they do."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples.conftest import EXAMPLES, Tiny

Run = Callable[..., str]


def replies(printed: str) -> dict[str, str]:
    """What stands under each head `── … ──`."""
    parts = re.split(r"── (.*) ──\n", printed)[1:]
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))


def test_knob(run_example: Run, tiny_parts: Tiny) -> None:
    printed = run_example("knob.py", tiny_parts.model, tiny_parts.vectors)
    assert "'legal': {'avoidance': -1.0, 'generic': 0.0, 'expert': 1.0}" in printed
    found = replies(printed)
    assert list(found)[:3] == ["legal=avoidance", "base", "legal=expert"] and len(found) == 7
    assert len({found[head] for head in list(found)[:3]}) == 3


@pytest.fixture(scope="module")
def server(tiny_parts: Tiny) -> Iterator[str]:
    options = ["--port", "0", "--no-page", "--policy", EXAMPLES / "three_audiences.yaml"]
    options += ["--model", tiny_parts.model, "--vectors", tiny_parts.vectors]
    running = subprocess.Popen(
        [sys.executable, "-m", "alignvec.cli.app", "serve", *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    try:
        assert running.stderr is not None
        yield next(found[0] for line in running.stderr if (found := re.findall(r"http://\S+", line)))
    finally:
        running.kill()
        running.communicate()


def test_three_audiences(run_example: Run, server: str) -> None:
    by_argument, by_environment = (
        run_example("three_audiences.py", server), run_example("three_audiences.py", ALIGNVEC_URL=server)
    )  # fmt: skip
    assert by_argument == by_environment
    found = replies(by_argument)
    assert list(found) == [
        "public: {'medical': -1.0}",
        "clinic: {'medical': 1.0}",
        "office: {'medical': 0.0}",
        "public asks for medical=expert",
    ]
    assert len(set(found.values())) == 4
    assert found["public asks for medical=expert"].startswith("403: knob medical=expert (λ = 1) is above")


def test_preferences_to_knob(run_example: Run, tiny_parts: Tiny, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (EXAMPLES / "brief.jsonl").read_text().splitlines()]
    assert len({record["prompt"] for record in records}) == len(records) == 60
    assert all(record["chosen"] in record["rejected"] for record in records)
    printed = run_example("preferences_to_knob.py", "--model", tiny_parts.model, "--epochs", 1, "--out", "out")
    assert "60 of 60 records are rows: {'train': 42, 'validation': 5, 'test': 13}" in printed
    table = [line.split() for line in printed.splitlines() if re.match(r" *-?[01](\.5)? ", line)]
    assert [row[0] for row in table] == ["-1", "-0.5", "0", "0.5", "1"]
    margins = [float(row[1]) for row in table]
    assert margins == sorted(margins) and margins[2] == 0 and margins[0] < -0.01 < 0.01 < margins[-1]
    assert len(replies(printed)) == 3
    assert (tmp_path / "out" / "vector" / "card.json").is_file()


def test_pairs_from_personas(run_example: Run, tiny_parts: Tiny, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Why?\n\nHow do I boil an egg?\n")
    options = ["--positive", "honest", "--negative", "untruthful", "--model", tiny_parts.model, "--max-new-tokens", 12]
    told = run_example("pairs_from_personas.py", "prompts.txt", *options, "--out", "pairs.jsonl")
    assert told == "2 pairs in pairs.jsonl; 0 left out, equal or empty\n"
    found = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [pair["prompt"] for pair in found] == ["Why?", "How do I boil an egg?"]
    assert all(pair["chosen"] != pair["rejected"] for pair in found)
    again = run_example("pairs_from_personas.py", "pairs.jsonl", *options, "--out", "again.jsonl")
    assert "2 pairs" in again and (tmp_path / "again.jsonl").read_text() == (tmp_path / "pairs.jsonl").read_text()
    same = ["--positive", "calm", "--negative", "calm", "--model", tiny_parts.model, "--max-new-tokens", 12]
    assert run_example("pairs_from_personas.py", "prompts.txt", *same, "--out", "none.jsonl").startswith("0 pairs")


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("knob.py", ["/nope"], "error: no model folder at /nope"),
        ("knob.py", ["--help"], "error: '--help' is neither a folder nor a model"),
        ("preferences_to_knob.py", ["/nope"], "error: /nope: unknown kind of file"),
        ("preferences_to_knob.py", ["--epochs", "nan"], "error: options: epochs: Input should be a finite number"),
        ("three_audiences.py", ["nonsense"], "nonsense: Connection error; start a server: alignvec serve --port 8000"),
        ("three_audiences.py", ["http://127.0.0.1:1"], "http://127.0.0.1:1: Connection error; start a server"),
    ],
    ids=["knob-place", "knob-option", "preferences-file", "preferences-epochs", "audiences-url", "audiences-server"],
)
def test_what_cannot_work_is_told_in_one_line(
    start_example: Callable[..., subprocess.CompletedProcess[str]], script: str, arguments: list[str], told: str
) -> None:
    done = start_example(script, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(told) and done.stderr.count("\n") == 1, done.stderr


def test_the_list_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in EXAMPLES.iterdir() if path.suffix and f"`{path.name}`" not in text]
    assert missing == ["README.md"]
