"""`alignvec keep`: rows for a recipe's `keep`, and one line for a user's mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told

from alignvec.data.load import load_rows, shipped_file
from alignvec.solve.routing import SHIPPED, load_prompts
from alignvec.train.keep import load_keep
from alignvec.vectors.algebra import renamed
from alignvec.vectors.store import load_card, save_vector
from tests.conftest import MakeVector, preference_record


@pytest.fixture
def options(tiny_folder: Path, make_vector: MakeVector, tmp_path: Path) -> list[Any]:
    """A vector of the medical domain under another name, and legal queries."""
    save_vector(renamed(make_vector("medical", scale=0.4), "tone"), tmp_path / "tone")
    records = [preference_record(i, "train", domain) for domain in ("legal", "medical") for i in range(3)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return [
        "keep",
        tmp_path / "tone",
        "--model",
        tiny_folder,
        "--max-new-tokens",
        4,
        "--out",
        tmp_path / "k/keep.jsonl",
    ]


def test_rows_are_written_counted_and_not_generated_again(command: Command, options: list[Any], tmp_path: Path) -> None:
    queries = ["--queries", tmp_path / "q.jsonl"]
    done = command(*options, *queries, "--limit", 2, "--json")
    assert done.code == 0, done.err
    origin, rows = load_keep(tmp_path / "k/keep.jsonl")
    card = load_card(tmp_path / "tone")
    assert (origin.domain, origin.files, origin.base) == ("medical", card.files, card.base.fingerprint)
    assert [row.query for row in rows] == [preference_record(i, "train", "legal")["query"] for i in range(2)]
    changed = {side: sum(getattr(row, side) != row.base for row in rows) for side in ("positive", "negative")}
    out = str(tmp_path / "k/keep.jsonl")
    assert json.loads(done.out) == {"out": out, "domain": "medical", "queries": 2, "changed": changed}
    journal = (tmp_path / "k/keep.jsonl.journal").read_text().splitlines()
    assert len(journal) == 1 + 6

    done = command(*options, *queries)
    assert done.code == 0 and f"{out}: 3 queries outside medical; replies change at λ = 1 for" in done.out
    assert (tmp_path / "k/keep.jsonl.journal").read_text().splitlines()[:7] == journal
    assert load_keep(tmp_path / "k/keep.jsonl")[1][:2] == rows
    assert_told(command(*options, *queries, "--seed", 5), "DataError", "choose another --out")
    options[-1] = tmp_path / "k/keep.other"  # not the same work because only the suffix differs
    assert command(*options, *queries, "--seed", 5).code == 0


def test_by_default_the_other_domains_and_prompts_outside_all_are_asked(command: Command, options: list[Any]) -> None:
    done = command(*options, "--limit", 1, "--json")
    assert done.code == 0, done.err
    _, rows = load_keep(options[-1])
    expected = [load_rows(shipped_file(name), split="train", limit=1)[0].query for name in ("legal", "financial")]
    assert [row.query for row in rows] == [*expected, load_prompts(SHIPPED / "outside.jsonl", "train")[0].text]


def test_a_mistake_is_one_line(command: Command, options: list[Any], tmp_path: Path) -> None:
    assert_told(command("keep", tmp_path / "none", "--out", tmp_path / "k.jsonl"), "VectorError", "no vector at")
    assert_told(command(*options, "--queries", tmp_path / "none.jsonl"), "DataError", "none.jsonl", "--queries")
    (tmp_path / "own.jsonl").write_text(json.dumps(preference_record(0, "train")) + "\n")
    assert_told(command(*options, "--queries", tmp_path / "own.jsonl"), "no training queries outside 'medical'")
    options[-1] = tmp_path / "file/keep.jsonl"
    assert_told(command(*options, "--queries", tmp_path / "q.jsonl"), "StorageError", "file")
