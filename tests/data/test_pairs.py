"""Preference orders and the pairs they make."""

from itertools import permutations

import pytest

from alignvec.data.pairs import parse_order, preference_pairs
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError


@pytest.mark.parametrize("order", [">".join(levels) for levels in permutations(("expert", "generic", "avoidance"))])
def test_a_strict_order_of_three_makes_three_pairs(order: str) -> None:
    first, second, third = order.split(">")
    assert set(parse_order(order).level_pairs()) == {(first, second), (first, third), (second, third)}


def test_equally_wanted_levels_make_no_pair() -> None:
    assert parse_order("generic>expert=avoidance").level_pairs() == [("generic", "expert"), ("generic", "avoidance")]
    assert parse_order("a=b>c=d").level_pairs() == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]


@pytest.mark.parametrize("text", ["expert>generic>avoidance", "generic>expert=avoidance", "a=b=c>d", "a>b"])
def test_an_order_reads_back_from_its_text(text: str) -> None:
    assert str(parse_order(text)) == text
    assert parse_order(str(parse_order(text))) == parse_order(text)


def test_blanks_around_levels_do_not_matter() -> None:
    assert str(parse_order(" expert > generic = avoidance ")) == "expert>generic=avoidance"


def test_levels_come_most_wanted_first() -> None:
    assert parse_order("generic>expert=avoidance").levels == ("generic", "expert", "avoidance")


@pytest.mark.parametrize("text", ["expert>generic>avoidance", "generic>expert=avoidance", "a=b>c=d"])
def test_the_reversed_order_swaps_every_pair(text: str) -> None:
    order = parse_order(text)
    swapped = {(rejected, chosen) for chosen, rejected in order.level_pairs()}
    assert set(order.reversed().level_pairs()) == swapped
    assert order.reversed().reversed() == order


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "has an empty level"),
        ("expert>", "has an empty level"),
        ("expert>>generic", "has an empty level"),
        ("expert>=generic", "has an empty level"),
        ("expert", "prefers nothing to anything"),
        ("expert=generic", "prefers nothing to anything"),
        ("expert>generic>expert", "names a level twice"),
        ("expert=expert>generic", "names a level twice"),
    ],
)
def test_an_order_that_says_nothing_is_refused(text: str, cause: str) -> None:
    with pytest.raises(DataError, match=cause):
        parse_order(text)


def test_pairs_carry_the_replies_of_their_levels_row_by_row(rows: list[PreferenceRow]) -> None:
    pairs = preference_pairs(rows[:2], parse_order("generic>expert=avoidance"))
    expected = [
        (row.id, row.query, row.responses["generic"], row.responses[rejected], "generic", rejected)
        for row in rows[:2]
        for rejected in ("expert", "avoidance")
    ]
    found = [(p.row_id, p.query, p.chosen, p.rejected, p.chosen_level, p.rejected_level) for p in pairs]
    assert found == expected


def test_a_row_without_a_level_of_the_order_is_refused_by_name(rows: list[PreferenceRow]) -> None:
    with pytest.raises(DataError, match=r"row medical-0 has no 'terse' reply \(has: avoidance, generic, expert\)"):
        preference_pairs(rows, parse_order("terse>expert"))
