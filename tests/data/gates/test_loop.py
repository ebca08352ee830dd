"""Broken replies are found, natural ones are left alone."""

import pytest

from alignvec.data.gates.loop import is_degenerate
from alignvec.data.load import load_rows, shipped_file


@pytest.mark.parametrize("reply", ["", "   \n", "...", "Yes.", "Ask them."])
def test_a_reply_of_fewer_than_three_words_is_degenerate(reply: str) -> None:
    assert is_degenerate(reply)


def test_three_words_are_enough() -> None:
    assert not is_degenerate("Ask a nurse.")


def test_one_word_four_times_in_a_row_is_a_loop_and_three_times_is_not() -> None:
    assert is_degenerate("It is very, very, VERY very late.")
    assert not is_degenerate("It is very, very, very late.")


def test_a_repeated_phrase_is_a_loop() -> None:
    assert is_degenerate(
        "It is a constant companion, a constant companion, a constant companion, a constant companion."
    )


def periodic(different: int, total: int) -> str:
    return " ".join(f"w{i % different}" for i in range(total))


def test_a_loop_is_over_a_quarter_of_repeated_four_grams() -> None:
    # n words with period p have n - 3 four-grams, of which n - 3 - p are repeats.
    assert not is_degenerate(periodic(30, 43))  # 10 repeats of 40: exactly a quarter
    assert is_degenerate(periodic(30, 44))  # 11 of 41


def test_a_reply_said_twice_is_a_loop() -> None:
    text = "Keep regular hours, skip late coffee and dim the lights well before bed."
    assert not is_degenerate(text)
    assert is_degenerate(f"{text} {text}")


NATURAL = (
    "如果您的头痛持续超过三天，或者伴有发热、呕吐和视力模糊，请尽快去医院就诊。平时应当保持规律的作息时间，避免熬夜，多喝水。",
    "頭痛が三日以上続く場合や、発熱、吐き気を伴う場合は、早めに病院を受診してください。規則正しい生活を心がけてください。",
    "หากคุณปวดศีรษะติดต่อกันเกินสามวัน หรือมีไข้ อาเจียน และตามัวร่วมด้วย ควรรีบไปพบแพทย์ที่โรงพยาบาล",
)


@pytest.mark.parametrize("text", NATURAL)
def test_loops_are_found_without_spaces_between_words(text: str) -> None:
    assert not is_degenerate(text)
    assert is_degenerate(f"{text} {text}")
    letters = "".join(letter for letter in text if letter.isalnum())
    assert not is_degenerate(letters)
    assert is_degenerate(f"{text} {letters * 5}")
    assert is_degenerate(text[:1])


@pytest.mark.parametrize("domain", ["medical", "legal", "financial", "general"])
def test_no_shipped_reply_is_degenerate(domain: str) -> None:
    replies = [text for row in load_rows(shipped_file(domain)) for text in row.responses.values()]
    assert len(replies) in (600, 120)
    assert [text for text in replies if is_degenerate(text)] == []
