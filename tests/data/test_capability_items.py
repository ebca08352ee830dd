"""Questions and instructions: what ships, and what is said of a bad file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from alignvec.data.capability import CHOICES, INSTRUCTIONS, LETTERS, Instruction, Question, load_items
from alignvec.data.checks import Check
from alignvec.data.load import load_rows, shipped_file
from alignvec.errors import DataError

SPLITS = ("validation", "test")


@pytest.mark.parametrize("split", SPLITS)
def test_shipped_questions_have_their_answers_evenly_on_the_letters(split: str) -> None:
    questions = load_items(CHOICES, Question, split=split)
    assert Counter(question.answer for question in questions) == dict.fromkeys(LETTERS, 10)
    assert all(len(set(question.choices)) == 4 for question in questions)
    assert set(Counter(question.topic for question in questions).values()) == {4}
    first = load_items(CHOICES, Question, split=split, limit=8)
    assert Counter(question.answer for question in first) == dict.fromkeys(LETTERS, 2)


def test_the_right_choice_is_not_told_by_its_length() -> None:
    questions = [question for split in SPLITS for question in load_items(CHOICES, Question, split=split)]
    sizes = [[len(choice) for choice in question.choices] for question in questions]
    right = [LETTERS.index(question.answer) for question in questions]
    for extreme in (max, min):
        alone = [(s.index(extreme(s)), r) for s, r in zip(sizes, right, strict=True) if s.count(extreme(s)) == 1]
        assert sum(place == r for place, r in alone) / len(alone) < 0.4


@pytest.mark.parametrize("split", SPLITS)
def test_shipped_instructions_have_every_kind_of_check_in_both_halves(split: str) -> None:
    instructions = load_items(INSTRUCTIONS, Instruction, split=split)
    assert len(instructions) == 30
    kinds = {check.kind for instruction in instructions for check in instruction.checks}
    known = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(Check)[0])}
    assert kinds == known


def test_no_item_stands_twice_or_in_the_preference_data() -> None:
    questions = [question for split in SPLITS for question in load_items(CHOICES, Question, split=split)]
    instructions = [one for split in SPLITS for one in load_items(INSTRUCTIONS, Instruction, split=split)]
    texts = [*(q.question for q in questions), *(i.instruction for i in instructions)]
    assert len(set(texts)) == len(texts) == 140
    domains = ("medical", "legal", "financial", "general")
    assert not set(texts) & {row.query for domain in domains for row in load_rows(shipped_file(domain))}


def test_an_empty_reply_follows_nothing() -> None:
    at_most = Instruction(
        id="i", split="test", topic="t", instruction="Say little.", checks=({"kind": "max_words", "count": 3},)
    )
    assert at_most.followed(" so little \n") and not at_most.followed(" \n")
    both = at_most.model_copy(update={"checks": (*at_most.checks, *at_most.model_validate(
        {**at_most.model_dump(), "checks": [{"kind": "lower_case"}]}).checks)})  # fmt: skip
    assert both.followed("so little") and not both.followed("So little") and not both.followed("it is much too long")


def _question(**changed: Any) -> dict[str, Any]:
    record = {"id": "q", "split": "test", "topic": "t", "question": "Which?", "choices": list("wxyz"), "answer": "B"}
    return record | changed


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([_question(answer="E")], ":1: answer"),
        ([_question(choices=["one", "two"])], ":1: choices.2"),
        ([_question(), _question()], ":2: id 'q' was used on line 1"),
        ([_question(split="validation")], "no items with split=test (splits there: validation)"),
        ([], "the file is empty"),
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, records: list[dict[str, Any]], told: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(DataError) as error:
        load_items(path, Question, split="test")
    assert str(path) in str(error.value) and told in str(error.value)
