"""`alignvec judge`: rates, agreement and trust as printed, files, and bad input in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.schema import LEVELS
from alignvec.data.teacher import pace
from tests.cli.running import Command, assert_told, prepared
from tests.conftest import preference_record
from tests.evaluate.test_llm_judge import by_word
from tests.scripted_teacher import serving


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)
    return prepared(monkeypatch, capsys, tmp_path)


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def swept(data_file: Path, tmp_path: Path) -> dict[str, Path]:
    """Replies at three λ to four test rows, whose first word is their level, and a reader's labels of nine of them."""
    replies, labels = [], []
    for place, value in enumerate((-1.0, 0.0, 1.0)):
        for number in range(12, 16):
            row = preference_record(number, "test")
            text = f"{LEVELS[place]} is the word of {number}"
            key = {"row": row["id"], "coefficient": value, "reply": text}
            replies.append({**key, "query": row["query"], "level": "generic", "degenerate": False})
            if number < 15:
                labels.append({**key, "domain": "medical", "label": LEVELS[place], "fluent": True, "rater": "ann"})
    return {
        "replies": lines(tmp_path / "replies.jsonl", replies),
        "labels": lines(tmp_path / "labels.jsonl", labels),
        "data": data_file,
    }


def judge(swept: dict[str, Path], *more: object) -> tuple[object, ...]:
    return ("judge", swept["replies"], "--data", swept["data"], *more)


def llm(url: str, out: Path) -> tuple[object, ...]:
    return ("--by", "llm", "--judge-url", url, "--judge-model", "s", "--attempts", 2, "--out", out)


def test_judges_are_compared_and_written(run: Command, swept: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(answer=by_word) as teacher:
        done = run(*judge(swept, "--by", "classifier", *llm(teacher.url, out), "--labels", swept["labels"]))
        assert done.code == 0, done.err
        assert len(teacher.bodies) == 24
        again = run(*judge(swept, "--by", "classifier", *llm(teacher.url, out), "--labels", swept["labels"], "--json"))
        assert len(teacher.bodies) == 24, "nothing is asked again"
    assert max(map(len, done.out.split("12 of 12 replies judged")[0].splitlines())) <= 80
    assert "…" not in done.out
    assert "classifier (down) x llm (across), same level: " in done.out
    assert "llm: κ with ann 1.00" in done.out and "12 of 12 replies judged; " in done.out
    result = json.loads(again.out)
    saved = json.loads((out / "judged.json").read_text())
    assert saved["agreement"] == result["agreement"] and saved["rates"] == result["rates"]
    assert [one["name"] for one in result["judges"]] == ["classifier", "llm", "ann"]
    rates = {(one["coefficient"], one["judge"]): one for one in result["rates"]}
    assert rates[-1.0, "llm"]["rate"]["avoidance"]["value"] == 1.0
    assert rates[1.0, "llm"]["agreed"]["value"] == 1.0
    assert (rates[1.0, "ann"]["replies"], rates[1.0, "llm"]["replies"]) == (3, 4)
    verdicts = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    assert verdicts[0]["verdicts"]["llm"] == {"level": "avoidance", "said": ["avoidance", "avoidance"]}
    assert sum("ann" in one["verdicts"] for one in verdicts) == 9
    assert (out / "judged.png").read_bytes().startswith(b"\x89PNG")


def test_shares_of_missing_verdicts_are_printed_and_count_in_the_rates(
    run: Command, swept: dict[str, Path], tmp_path: Path
) -> None:
    text = swept["replies"].read_text().replace("avoidance is the word", "first is the word")
    swept["replies"].write_text(text.replace("expert is the word of 15", "nothing is said"))
    with serving(answer=by_word) as teacher:
        done = run(*judge(swept, *llm(teacher.url, tmp_path / "out"), "--json"))
    result = json.loads(done.out)
    missing = result["judges"][0]["missing"]
    assert {why: share["value"] for why, share in missing.items()} == {"inconsistent": 4 / 12, "unparsable": 1 / 12}
    rates = {one["coefficient"]: one for one in result["rates"]}
    assert (rates[-1.0]["missing"], rates[-1.0]["rate"]["avoidance"]["value"]) == (4, 0.0)
    assert (rates[1.0]["missing"], rates[1.0]["rate"]["expert"]["value"]) == (1, 0.75)


def test_a_limit_draws_labelled_replies_first_and_by_seed(run: Command, swept: dict[str, Path], tmp_path: Path) -> None:
    def drawn(limit: int, seed: int) -> list[tuple[str, float]]:
        out = tmp_path / f"out-{limit}-{seed}"
        more = ("--labels", swept["labels"], "--limit", limit, "--seed", seed, "--out", out)
        done = run(*judge(swept, *more))
        assert f"{limit} of 12 replies judged" in done.out
        assert (f"{9 - limit} labels are of replies that were not judged" in done.out) is (limit < 9)
        return [
            (r["row"], r["coefficient"]) for r in map(json.loads, (out / "verdicts.jsonl").read_text().splitlines())
        ]

    labelled = {(r["row"], r["coefficient"]) for r in map(json.loads, swept["labels"].read_text().splitlines())}
    assert set(drawn(5, 0)) < labelled and drawn(5, 0) == drawn(5, 0) != drawn(5, 1)
    assert labelled < set(drawn(10, 0))


def test_without_labels_nothing_is_called_right(run: Command, swept: dict[str, Path]) -> None:
    done = run(*judge(swept))
    assert "nothing here says whether any of these judges is right" in done.out


def test_a_dead_endpoint_leaves_no_result(run: Command, swept: dict[str, Path], tmp_path: Path) -> None:
    with serving() as teacher:
        url = teacher.url
    assert_told(run(*judge(swept, *llm(url, tmp_path / "out"))), "TeacherError", "no judge at", "--judge-url")
    assert not (tmp_path / "out/judged.json").exists()


def test_bad_input_is_told_in_one_line(run: Command, swept: dict[str, Path], tmp_path: Path) -> None:
    assert_told(run(*judge(swept, "--by", "oracle")), "no judge is called 'oracle'", "--by")
    assert_told(run(*judge(swept, "--by", "llm")), "--judge-url, --judge-model and --out")
    assert_told(run(*judge(swept, "--by", "likelihood")), "cannot read the journal", "journal.jsonl")
    assert_told(run("judge", swept["replies"]), "replies.jsonl:1", "row 'medical-12' is in none", "--data")
    assert_told(run("judge", tmp_path / "none.jsonl"), "no file at", "replies.jsonl")
    assert_told(run(*judge(swept, *llm("http://me:pw@localhost:1", tmp_path / "o"))), "--judge-key-variable")
    whole = swept["replies"].read_text()
    for content, parts in (
        ("", ("the file is empty",)),
        (whole[: len(whole) // 2], ("replies.jsonl:", "mend the line")),
        (whole.replace("sleep better", "wake up", 1), ("replies.jsonl:1", "another query")),
        (whole + whole.splitlines()[0] + "\n", ("replies.jsonl:13", "a second reply")),
    ):
        swept["replies"].write_text(content)
        assert_told(run(*judge(swept)), *parts)
    swept["replies"].write_text(whole)
    whole = swept["labels"].read_text()
    for content, parts in (
        (whole.replace('"label": "avoidance"', '"label": "evasive"', 1), ("'evasive'", "no level")),
        (whole.replace("is the word of 12", "was the word of 12", 1), ("medical-12", "another reply")),
        (whole + whole.splitlines()[0] + "\n", ("labels.jsonl:10", "before; keep one")),
        (whole.replace('"ann"', '"classifier"'), ("two judges are called 'classifier'",)),
        (whole.replace('"fluent"', '"fluid"', 1), ("labels.jsonl:1", "fluid")),
        (whole.replace("-1.0", "NaN", 1), ("labels.jsonl:1",)),
    ):
        swept["labels"].write_text(content)
        assert_told(run(*judge(swept, "--labels", swept["labels"])), *parts)
