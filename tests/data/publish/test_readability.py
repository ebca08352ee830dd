"""Flesch's formulas against published values and counts by hand."""

import pytest

from alignvec.data.publish.readability import count, syllables

PLATYPUS = "The Australian platypus is seemingly a hybrid of a mammal and reptilian creature."


def test_the_easiest_textbook_sentence() -> None:
    counts = count("The cat sat on the mat.")
    assert counts is not None
    assert (counts.words, counts.sentences, counts.syllables) == (6, 1, 6)
    assert counts.reading_ease == pytest.approx(116.145)
    assert counts.grade == pytest.approx(-1.45)


def test_the_platypus_of_the_textbooks_scores_37_5() -> None:
    counts = count(PLATYPUS)
    assert counts is not None
    assert (counts.words, counts.sentences, counts.syllables) == (13, 1, 24)
    assert counts.reading_ease == pytest.approx(37.455, abs=0.01)


def test_sentences_words_and_syllables_counted_by_hand() -> None:
    counts = count('Take 1.5 mg, twice a day. Why? "It\'s well-known!" he said (see the leaflet.) Then rest')
    assert counts is not None
    # Take 1.5 mg twice a day | Why | It's well-known | he said see the leaflet | Then rest; 1.5 and well-known are two
    assert (counts.words, counts.sentences) == (7 + 1 + 3 + 5 + 2, 4)


@pytest.mark.parametrize("text", ["", "   ", "?!", "— …"])
def test_no_words_have_no_score(text: str) -> None:
    assert count(text) is None


@pytest.mark.parametrize(
    ("word", "number"),
    [
        *(("mat", 1), ("the", 1), ("take", 1), ("table", 2), ("jumped", 1), ("wanted", 2), ("doses", 2), ("makes", 1)),
        *(("medication", 4), ("being", 2), ("period", 3), ("hypertension", 4), ("serious", 3), ("quick", 1)),
        *(("insurance", 3), ("physician", 3), ("beautiful", 3), ("usual", 3), ("mg", 1), ("12", 1), ("people", 2)),
    ],
)
def test_syllables_as_a_dictionary_has_them(word: str, number: int) -> None:
    assert syllables(word) == number
