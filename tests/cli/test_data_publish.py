"""`alignvec data split`, `card` and `import`, as a user calls them."""

import json
from pathlib import Path

import pytest
from running import Command, assert_told, prepared

from alignvec.data.load import load_rows


@pytest.fixture
def alignvec(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capsys, tmp_path)


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    records = [{"question": f"Why {i}?", "good": f"Because {i}.", "bad": "No."} for i in range(9)]
    records.append({"question": "Why?", "good": "No.", "bad": "No."})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


MAP = ("--map", "prompt=question", "--map", "chosen=good", "--map", "rejected=bad")


def test_split_prints_the_counts_of_the_file_it_writes(alignvec: Command, data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.jsonl"
    done = alignvec("data", "split", data_file, "--out", out, "--ratios", "0.5,0.25,.25", "--salt", "x", "--json")
    counts = json.loads(done.out)["splits"]
    rows = load_rows(out)
    assert done.code == 0
    assert counts == {split: sum(row.split == split for row in rows) for split in ("train", "validation", "test")}
    text = alignvec("data", "split", data_file, "--out", out, "--ratios", "1,0,0").out
    assert "train 16, validation 0, test 0" in text


@pytest.mark.parametrize("ratios", ["0.7,0.3", "1,1,1", "a,b,c"])
def test_bad_ratios_are_one_line(alignvec: Command, data_file: Path, tmp_path: Path, ratios: str) -> None:
    done = alignvec("data", "split", data_file, "--out", tmp_path / "new.jsonl", "--ratios", ratios)
    assert_told(done, "0.7,0.1,0.2")
    assert not (tmp_path / "new.jsonl").exists()


def test_card_writes_a_folder_and_prints_its_statistics(alignvec: Command, data_file: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"rejected": {"reply": {"length": 3}}}))
    arguments = ("data", "card", data_file, "--out", tmp_path / "set", "--report", report, "--licence", "MIT")
    done = alignvec(*arguments, "--title", "My set", "--json")
    assert done.code == 0
    printed = json.loads(done.out)
    assert printed == json.loads((tmp_path / "set" / "statistics.json").read_text())
    assert printed["rows"] == 16
    card = (tmp_path / "set" / "README.md").read_text()
    assert "# My set" in card
    assert "| reply / length | 3 |" in card
    assert f"level from word count alone: {printed['confound']['by_word_count']:.2f}" in alignvec(*arguments).out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--report", "none.json"), ("no report at none.json",)),
        (("--ratings", "none.jsonl"), ("no ratings at none.jsonl",)),
    ],
)
def test_card_tells_of_missing_files(
    alignvec: Command, data_file: Path, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_told(alignvec("data", "card", data_file, "--out", tmp_path / "set", *arguments), *parts)
    assert not (tmp_path / "set").exists()


def test_card_uses_all_ratings_files(alignvec: Command, data_file: Path, tmp_path: Path) -> None:
    more: list[object] = []
    for rater in ("ann", "ben"):
        ratings = tmp_path / f"{rater}.jsonl"
        verdict = {"rater": rater, "id": "medical-0", "shown_level": "expert", "level": "expert"}
        ratings.write_text(json.dumps(verdict) + "\n")
        more += ["--ratings", ratings]
    assert alignvec("data", "card", data_file, "--out", tmp_path / "set", *more).code == 0
    assert "Raters, as named in the ratings: ann, ben." in (tmp_path / "set" / "README.md").read_text()


def test_card_does_not_replace_a_file(alignvec: Command, data_file: Path, tmp_path: Path) -> None:
    assert_told(alignvec("data", "card", data_file, "--out", tmp_path / "file"), "is a file", "--out")
    assert (tmp_path / "file").read_text() == "mine"


def test_import_says_what_became_of_every_record(alignvec: Command, pairs_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = alignvec("data", "import", pairs_file, "--out", out, *MAP, "--domain", "tides")
    assert done.code == 0
    assert "9 of 10 pairs records" in done.out
    assert "1 chosen and rejected are the same" in done.out
    assert f"in the recipe: data: {out}, order: chosen>rejected" in done.out
    assert len(load_rows(out, domain="tides")) == 9
    assert len((tmp_path / "rows.rejected.jsonl").read_text().splitlines()) == 1
    printed = json.loads(
        alignvec("data", "import", pairs_file, "--out", out, *MAP, "--rejected", tmp_path / "no.jsonl", "--json").out
    )
    assert (printed["read"], printed["rows"], printed["order"]) == (10, 9, "chosen>rejected")
    assert printed["rejected"] == {"chosen and rejected are the same": 1}
    assert len((tmp_path / "no.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("no format fits its columns", "question, good, bad", "--map prompt=COLUMN")),
        (("--map", "prompt"), ("--map 'prompt' is not NAME=COLUMN",)),
        (("--map", "prompt=nothing"), ("no column 'nothing'", "question, good, bad")),
        (("--format", "safe-rlhf"), ("no column prompt, response_0, response_1, safer_response_id",)),
    ],
)
def test_import_tells_what_does_not_fit(
    alignvec: Command, pairs_file: Path, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_told(alignvec("data", "import", pairs_file, "--out", tmp_path / "rows.jsonl", *arguments), *parts)
    assert not (tmp_path / "rows.jsonl").exists()


def test_import_of_rubbish_is_one_line(alignvec: Command, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(bytes(range(256)))
    done = alignvec("data", "import", tmp_path / "x.parquet", "--out", tmp_path / "rows.jsonl")
    assert_told(done, "x.parquet as parquet", "damaged or cut short")
