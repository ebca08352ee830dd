"""Cells spread evenly over every attribute."""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from alignvec.data.synthesis.grid import cells, cycled, cycles

GRID = {"age": ["young", "old"], "place": ["here", "there", "far"], "work": [f"work {n}" for n in range(7)]}


@given(count=st.integers(1, 200), seed=st.integers(0, 10))
def test_no_value_comes_up_more_than_once_more_than_another(count: int, seed: int) -> None:
    drawn = list(islice(cells(GRID, seed), count))
    for name, values in GRID.items():
        times = Counter(cell[name] for cell in drawn)
        each = [times[value] for value in values]
        assert sum(each) == count
        assert max(each) - min(each) <= 1


def test_attributes_do_not_move_in_step() -> None:
    pairs = Counter((cell["age"], cell["place"]) for cell in islice(cells(GRID, 0), 600))
    assert len(pairs) == 6
    assert min(pairs.values()) > 60  # 100 expected of each


def test_cells_follow_from_the_seed_and_a_longer_run_begins_like_a_shorter_one() -> None:
    assert list(islice(cells(GRID, 3), 20)) == list(islice(cells(GRID, 3), 50))[:20]
    assert list(islice(cells(GRID, 3), 20)) != list(islice(cells(GRID, 4), 20))


def test_a_place_of_a_cycle_is_found_without_those_before_it() -> None:
    values = list("abcdefg")
    assert [cycled(values, "s", n) for n in range(50)] == list(islice(cycles(values, "s"), 50))


def test_a_cycle_has_every_value_once_a_round() -> None:
    drawn = list(islice(cycles(list("abcde"), "s"), 25))
    assert all(sorted(drawn[n : n + 5]) == list("abcde") for n in range(0, 25, 5))
