"""The level judge and its account of itself."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.load import load_rows, shipped_file
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.judge import LevelJudge, judge_for, train_judge

DOMAINS = ("financial", "legal", "medical")


@pytest.fixture(scope="module")
def shipped() -> LevelJudge:
    return judge_for(shipped_file("medical"))


def held_out() -> list[PreferenceRow]:
    return [row for domain in DOMAINS for row in load_rows(shipped_file(domain), split="test")]


def test_the_shipped_judge_learns_from_all_domains_and_is_checked_on_their_test_rows(shipped: LevelJudge) -> None:
    assert shipped.levels == LEVELS
    assert shipped.report.trained_on == 3 * 140 * 3
    assert shipped.report.held_out == 3 * 40 * 3


def test_its_stated_accuracy_is_that_of_its_verdicts(shipped: LevelJudge) -> None:
    right = [
        verdict == level
        for level in LEVELS
        for verdict in shipped.verdicts([row.responses[level] for row in held_out()])
    ]
    assert shipped.report.accuracy.value == pytest.approx(sum(right) / len(right), abs=1e-12)
    assert shipped.report.accuracy.value > 0.9


def test_word_count_alone_judges_worse_and_far_better_than_chance(shipped: LevelJudge) -> None:
    report = shipped.report
    assert report.accuracy.low <= report.accuracy.value <= report.accuracy.high
    assert 1 / 3 < report.length_accuracy.value < report.accuracy.value
    assert report.length_accuracy.value == pytest.approx(0.89, abs=0.02)


def test_the_confusion_counts_every_held_out_reply_once(shipped: LevelJudge) -> None:
    confusion = shipped.report.confusion
    assert {true: sum(row.values()) for true, row in confusion.items()} == dict.fromkeys(LEVELS, 120)
    diagonal = sum(confusion[level][level] for level in LEVELS)
    assert diagonal / 360 == pytest.approx(shipped.report.accuracy.value, abs=1e-12)
    said = Counter(shipped.verdicts([row.responses["expert"] for row in held_out()]))
    assert {level: count for level, count in confusion["expert"].items() if count} == said


def test_its_words_carry_its_numbers(shipped: LevelJudge) -> None:
    report = shipped.report
    assert f"{report.accuracy.value:.2f} [{report.accuracy.low:.2f}, {report.accuracy.high:.2f}]" in report.summary()
    assert f"word count alone: {report.length_accuracy.value:.2f}" in report.summary()
    assert f"expert: {report.confusion['expert']['avoidance']} avoidance" in report.confusion_text()


def test_nothing_to_judge_gives_no_verdicts(shipped: LevelJudge) -> None:
    assert shipped.verdicts([]) == []


def test_the_same_data_makes_the_same_judge(data_file: Path) -> None:
    first, second = judge_for(data_file), judge_for(data_file)
    assert first.report == second.report
    assert first.report.trained_on == 24
    assert first.report.held_out == 12


def test_it_knows_the_wording_of_a_users_own_levels(data_file: Path) -> None:
    judge = judge_for(data_file)
    replies = ["Please ask somebody qualified.", "Keep regular hours.", "Stimulus control and sleep restriction."]
    assert judge.verdicts(replies) == list(LEVELS)


def test_a_persona_in_both_splits_is_refused(rows: list[PreferenceRow]) -> None:
    with pytest.raises(DataError, match="1 personas are in the judge's training and held-out rows"):
        train_judge(rows[:3], rows[3:], LEVELS)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_file_without_training_or_test_rows_is_refused(data_file: Path, split: str) -> None:
    kept = [line for line in data_file.read_text().splitlines() if json.loads(line)["split"] != split]
    data_file.write_text("\n".join(kept))
    with pytest.raises(DataError, match=f"no rows with split={split}"):
        judge_for(data_file)


def row(number: int, **responses: str) -> PreferenceRow:
    fields: dict[str, Any] = {"id": str(number), "split": "train", "domain": "d", "topic": "t", "persona": str(number)}
    return PreferenceRow(**fields, query="Why?", responses=responses)


def test_held_out_rows_of_other_levels_are_refused_by_id() -> None:
    train = [row(i, low="No idea at all.", high="Because of the tides.") for i in range(4)]
    with pytest.raises(DataError, match="99"):
        train_judge(train, [row(99, low="No idea.", top="Tides.")], ("low", "high"))


def test_training_replies_that_share_no_word_are_refused() -> None:
    with pytest.raises(DataError, match="train"):
        train_judge([row(1, low="alpha", high="beta")], [row(2, low="alpha", high="beta")], ("low", "high"))
