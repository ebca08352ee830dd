"""What gives a level away, on replies where the answer is known."""

import numpy as np
import pytest

from alignvec.data.confound import held_out_accuracy, length_classifier, text_classifier, word_count


def test_words_are_parted_by_spaces() -> None:
    assert word_count("  One two-three\nfour. ") == 3
    assert word_count("") == 0


def lengths(*groups: tuple[int, int], personas: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, labels and personas: for each group (first, last), its counts spread over the personas."""
    counts = np.concatenate([np.linspace(low, high, personas).round() for low, high in groups])
    return counts[:, None], np.repeat(np.arange(len(groups)), personas), np.tile(np.arange(personas), len(groups))


def test_lengths_that_do_not_overlap_give_all_away() -> None:
    assert held_out_accuracy(length_classifier(), *lengths((10, 20), (100, 120), (300, 330))) == 1.0


def test_lengths_that_are_the_same_give_nothing_away() -> None:
    features, labels, personas = lengths((50, 50), (50, 50))
    assert held_out_accuracy(length_classifier(), features, labels, personas) == 0.5


def test_half_overlap_is_right_three_times_in_four() -> None:
    # uniform on 0..100 and on 50..150: the best cut is right on 3/4 of them
    found = held_out_accuracy(length_classifier(), *lengths((0, 100), (50, 150), personas=400))
    assert found == pytest.approx(0.75, abs=0.02)


def test_no_reply_is_judged_by_one_that_saw_its_persona() -> None:
    # each persona has a word of its own for each level: known personas would give all away, new ones nothing
    texts = [
        f"p{persona}level{level} p{persona}level{level}" for level in (0, 1) for persona in range(20) for _ in "ab"
    ]
    labels = [level for level in (0, 1) for _ in range(40)]
    personas = [persona for _ in (0, 1) for persona in range(20) for _ in "ab"]
    assert held_out_accuracy(text_classifier(), texts, labels, personas) == pytest.approx(0.5, abs=0.15)


def test_one_persona_cannot_be_measured() -> None:
    assert held_out_accuracy(length_classifier(), [[1.0], [2.0]], [0, 1], ["a", "a"]) is None


def test_texts_that_share_no_word_cannot_be_measured() -> None:
    assert held_out_accuracy(text_classifier(), ["a1", "b1", "c1", "d1"], [0, 1, 0, 1], ["x", "x", "y", "y"]) is None
