"""Kappa against textbook values, scikit-learn, and a plain bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from alignvec.data.review.kappa import cohen, fleiss

FLEISS_1971 = [  # the example of 10 subjects, 14 raters and 5 categories; kappa .210
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def one_row_each(count: int) -> list[str]:
    return [f"row-{i}" for i in range(count)]


def test_cohens_kappa_of_the_textbook_table() -> None:
    first = [0] * 25 + [1] * 25
    second = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    found = cohen(one_row_each(50), first, second, 2, seed=0)
    assert found.kappa.value == pytest.approx(0.4, abs=1e-12)
    assert found.share.value == pytest.approx(0.7, abs=1e-12)
    assert (found.replies, found.rows) == (50, 50)


def test_cohens_kappa_is_scikit_learns() -> None:
    generator = np.random.default_rng(3)
    first = generator.integers(4, size=90)
    second = np.where(generator.random(90) < 0.6, first, generator.integers(4, size=90))
    found = cohen(one_row_each(90), first.tolist(), second.tolist(), 4, seed=0)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_fleiss_kappa_of_the_textbook_example() -> None:
    found = fleiss(one_row_each(10), FLEISS_1971, seed=0)
    assert found.kappa.value == pytest.approx(0.210, abs=5e-4)
    assert found.share.value == pytest.approx(0.378, abs=5e-4)


def test_interval_is_a_plain_bootstrap_over_rows() -> None:
    generator = np.random.default_rng(5)
    rows = [f"row-{i // 3}" for i in range(120)]
    shift = np.repeat(generator.random(40) < 0.4, 3)  # rows on which the raters differ throughout
    first = generator.integers(3, size=120)
    second = np.where(shift, (first + 1) % 3, first)
    found = cohen(rows, first.tolist(), second.tolist(), 3, seed=0)
    draws = []
    for _ in range(3000):
        chosen = generator.integers(40, size=40)
        index = (chosen[:, None] * 3 + np.arange(3)).ravel()
        draws.append(cohen_kappa_score(first[index], second[index]))
    low, high = np.percentile(draws, [2.5, 97.5])
    assert found.rows == 40
    assert found.kappa.low == pytest.approx(low, abs=0.02)
    assert found.kappa.high == pytest.approx(high, abs=0.02)
    alone = cohen(one_row_each(120), first.tolist(), second.tolist(), 3, seed=0).kappa
    assert alone.low is not None and found.kappa.low is not None
    assert alone.low > found.kappa.low + 0.04  # replies of a row are alike, and drawing them apart would hide it


def test_the_seed_decides_the_interval() -> None:
    first, second = [0, 1, 2, 0, 1, 2, 0, 1] * 4, [0, 1, 2, 1, 1, 2, 0, 2] * 4
    first[3], second[7] = 2, 0
    a, b, c = (cohen(one_row_each(32), first, second, 3, seed=seed) for seed in (1, 1, 2))
    assert a == b
    assert a.kappa.value == c.kappa.value
    assert (a.kappa.low, a.kappa.high) != (c.kappa.low, c.kappa.high)


def test_full_agreement_states_an_exact_bound_instead_of_an_interval_of_no_width() -> None:
    levels = [0, 1, 2] * 24
    for found in (
        cohen(one_row_each(72), levels, levels, 3, seed=0),
        fleiss(one_row_each(72), [[3 * (level == i) for i in range(3)] for level in levels], seed=0),
    ):
        assert (found.kappa.value, found.kappa.low, found.kappa.high) == (1.0, None, None)
        assert found.kappa.note is not None and "at most 5.0%" in found.kappa.note
        assert found.share.low is not None
        assert found.share.low**72 == pytest.approx(0.025)  # P(72 of 72) at the lower end is 2.5 %
        assert found.share.high == 1.0


def test_full_agreement_counts_rows_not_replies() -> None:
    levels = [0, 1, 2] * 24
    found = cohen([f"row-{i // 3}" for i in range(72)], levels, levels, 3, seed=0)
    assert found.share.low is not None
    assert found.share.low**24 == pytest.approx(0.025)


def test_full_disagreement() -> None:
    found = cohen(one_row_each(4), [0, 1, 0, 1], [1, 0, 1, 0], 2, seed=0)
    assert found.kappa.value == pytest.approx(-1.0)
    assert found.share.value == found.share.low == 0.0
    assert found.share.high is not None
    assert (1 - found.share.high) ** 4 == pytest.approx(0.025)


@pytest.mark.parametrize("levels", [1, 3])
def test_one_level_only_leaves_kappa_undefined(levels: int) -> None:
    two = cohen(one_row_each(5), [0] * 5, [0] * 5, levels, seed=0)
    three = fleiss(one_row_each(5), [[3] + [0] * (levels - 1)] * 5, seed=0)
    for found in (two, three):
        assert found.kappa.value is found.kappa.low is found.kappa.high is None
        assert found.kappa.note is not None and "undefined" in found.kappa.note
        assert found.share.value == 1.0
        assert "NaN" not in found.model_dump_json()


def test_draws_without_a_kappa_are_left_out_and_counted() -> None:
    found = cohen(one_row_each(4), [0, 0, 0, 1], [0, 0, 0, 1][::-1], 2, seed=0)
    assert found.kappa.value == pytest.approx(-1 / 3)
    assert found.kappa.note is not None
    lost = int(found.kappa.note.split(" of ")[0].split()[-1])
    assert lost / 2000 == pytest.approx(2**-4, abs=0.02)  # all four draws fall on the two rows rated 0 by both
    assert found.kappa.low is not None and not np.isnan(found.kappa.low)


def test_one_row_has_no_interval() -> None:
    found = cohen(["a"] * 3, [0, 1, 1], [0, 1, 0], 2, seed=0)
    assert found.kappa.value == pytest.approx(0.4)
    assert found.kappa.low is found.kappa.high is found.share.low is None
    assert found.kappa.note is not None and "no interval" in found.kappa.note


def test_nothing_to_compare() -> None:
    for found in (cohen([], [], [], 3, seed=0), fleiss([], [], seed=0)):
        assert (found.replies, found.kappa.value, found.share.value) == (0, None, None)
        assert found.kappa.note is not None
