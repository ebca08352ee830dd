"""Chats that ask for a level, and what they have in common."""

import pytest

from alignvec import models
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.reproduce.cost.ways import chat_of, check_shots, common_prefix, filler, holds_up_to, shares_of


def test_each_way_says_what_it_must_and_knobs_say_nothing(rows: list[PreferenceRow]) -> None:
    def chat(way: str, system: str = "Be polite.") -> list[dict[str, str]]:
        return chat_of(way, "Q?", system=system, instruction="Be expert.", shots=rows[:3], level="expert")

    asked = {"role": "user", "content": "Q?"}
    assert chat("knob") == chat("knobs_3") == [{"role": "system", "content": "Be polite."}, asked]
    assert chat("knob", "") == [asked]
    assert chat("zero_shot") == [{"role": "system", "content": "Be polite.\nBe expert."}, asked]
    assert chat("zero_shot", "")[0]["content"] == "Be expert."
    told = chat("three_shot")
    assert [one["role"] for one in told] == ["system", *["user", "assistant"] * 3, "user"]
    assert told[2]["content"] == rows[0].responses["expert"] and told[-1] == asked


def test_filler_has_so_many_tokens(tiny: models.BaseModel) -> None:
    for length in (0, 1, 64, 300):
        text = filler(tiny.tokenizer, length)
        assert len(tiny.tokenizer(text, add_special_tokens=False)["input_ids"]) == length


def test_a_common_prefix_leaves_every_prompt_a_token() -> None:
    assert common_prefix([[1, 2, 3, 4], [1, 2, 5]]) == 2
    assert common_prefix([[1, 2, 3], [1, 2, 3]]) == 2
    assert common_prefix([[1], [1, 2]]) == 0
    assert common_prefix([[7, 2], [1, 2]]) == 0


def test_examples_are_three_and_have_the_level(rows: list[PreferenceRow]) -> None:
    check_shots(rows[:3], "expert")
    with pytest.raises(DataError, match="2 examples for a 3-shot prompt"):
        check_shots(rows[:2], "expert")
    with pytest.raises(DataError, match="no reply at level 'wise'"):
        check_shots(rows[:3], "wise")


def test_a_claim_holds_up_to_where_it_first_fails() -> None:
    assert holds_up_to([(0, 0.2), (64, 0.5), (128, 0.51), (256, 0.3)]) == 64
    assert holds_up_to([(0, 0.6), (64, 0.1)]) is None
    line = [{"system_tokens": 8, "knob_vs": {"three_shot": {"seconds": 0.4}}}]
    assert shares_of(line, "three_shot", "seconds") == [(8, 0.4)]
