"""Every kind of check, with a reply that passes and replies that do not."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from alignvec.data.checks import Check

CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"kind": "max_words", "count": 3}, ["one two three"], ["one two three four"]),
    ({"kind": "min_words", "count": 3}, ["one two three"], ["one two"]),
    ({"kind": "lines", "count": 2}, ["one\n\ntwo"], ["one", "one\ntwo\nthree"]),
    ({"kind": "bullets", "count": 2}, ["Here:\n- one\n* two"], ["- one", "- one\n- two\n- three", "-one\n-two"]),
    ({"kind": "numbered", "count": 2}, ["Steps:\n1. one\n2) two"], ["1. one", "1. a\n2. b\n3. c", "2. a\n1. b"]),
    ({"kind": "includes", "words": ["key", "sea"]}, ["A Key by the sea."], ["A key.", "A monkey by the seaside."]),
    ({"kind": "excludes", "words": ["sun", "hot"]}, ["Sunny hotels."], ["The Sun is up.", "too hot"]),
    ({"kind": "without", "characters": "!,"}, ["plain."], ["well, no", "no!"]),
    ({"kind": "starts_with", "text": "In short"}, ["in short, yes"], ["So, in short", "In shorts we go"]),
    ({"kind": "ends_with", "text": "Yours, Sam"}, ["Bye.\nYours, Sam.", "yours, sam"], ["Yours, Sam, bye"]),
    ({"kind": "lower_case"}, ["all small, 3 times"], ["Not all small", "123"]),
    ({"kind": "upper_case"}, ["KEEP OFF!"], ["KEEP Off", "123"]),
    ({"kind": "one_of", "options": ["yes", "no"]}, ["Yes.", '"no"'], ["yes and no", "maybe"]),
    (
        {"kind": "json_object", "keys": ["name", "age"]},
        ['{"name": "A", "age": 3}', '```json\n{"age": 3, "name": "A"}\n```'],
        ['{"name": "A"}', '{"name": 1, "age": 2, "city": 3}', 'Here: {"name": 1, "age": 2}', "[1]", "{" * 5000],
    ),
]


@pytest.mark.parametrize(("check", "good", "bad"), CASES, ids=[case[0]["kind"] for case in CASES])
def test_a_check_tells_replies_apart(check: dict[str, Any], good: list[str], bad: list[str]) -> None:
    found: Any = TypeAdapter(Check).validate_python(check)
    assert [reply for reply in good if not found.holds(reply)] == []
    assert [reply for reply in bad if found.holds(reply)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "rhymes"},
        {"kind": "lines", "count": 0},
        {"kind": "includes", "words": []},
        {"kind": "lower_case", "n": 1},
    ],
)
def test_a_check_that_could_mean_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Check).validate_python(wrong)
