"""The choice of λ and form by hand: replies are written as letters, l(ow), m(iddle) or h(igh), capitals loop."""

import pytest

from alignvec.reproduce.stages.forms_choice import Choice, Heard, choose

NAMES = {"l": "low", "m": "middle", "h": "high"}


def heard(replies: str) -> Heard:
    return Heard([NAMES[one.lower()] for one in replies], [one.isupper() for one in replies])


def chosen(replies: dict[tuple[str, str, float], str], personas: dict[str, str], *levels: str) -> Choice:
    heard_by_case = {case: heard(text) for case, text in replies.items()}
    return choose(heard_by_case, personas, levels, lambda form, value: abs(value) * (2 if form == "wide" else 1))


def test_the_most_replies_of_the_level_that_do_not_loop_win() -> None:
    replies = {("f", "a", -1.0): "lllm", ("f", "a", 0.5): "hhml", ("f", "a", 1.0): "HHHh", ("f", "a", 0.0): "mmml"}
    found = chosen(replies, {"a": "pqrs"}, "low", "middle", "high")
    assert found.best == {"f": {"a": {"low": -1.0, "middle": 0.0, "high": 0.5}}}
    assert found.reach["f"].value == pytest.approx((3 / 4 + 3 / 4 + 2 / 4) / 3)


def test_of_equal_rates_the_nearest_to_the_base_wins_and_then_the_earliest() -> None:
    replies = {("f", "a", -1.5): "hh", ("f", "a", -0.5): "hl", ("f", "a", 1.0): "hh", ("f", "a", 1.5): "hh"}
    found = chosen(replies, {"a": "pq"}, "high", "low", "middle")
    assert found.best["f"]["a"] == {"high": 1.0, "low": -0.5, "middle": -0.5}
    replies = {("f", "a", -1.0): "hl", ("f", "a", 1.0): "lh"}
    assert chosen(replies, {"a": "pq"}, "high").best["f"]["a"] == {"high": -1.0}


def test_where_every_reply_loops_nothing_is_reached() -> None:
    found = chosen({("f", "a", 0.0): "HH", ("f", "a", 1.0): "HH"}, {"a": "pq"}, "high")
    assert found.best["f"]["a"] == {"high": 0.0} and found.reach["f"].value == 0


def test_domains_weigh_alike_whatever_their_number_of_queries() -> None:
    found = chosen({("f", "a", 0.0): "h", ("f", "b", 0.0): "hlll"}, {"a": "p", "b": "pqrs"}, "high")
    assert found.reach["f"].value == pytest.approx((1 + 1 / 4) / 2)


def test_a_domain_has_a_best_strength_of_its_own_in_each_form() -> None:
    replies = {
        ("f", "a", 0.0): "ll", ("f", "a", 1.0): "hh", ("f", "b", 0.0): "hh", ("f", "b", 1.0): "ll",
        ("g", "a", 0.0): "hh", ("g", "a", 1.0): "ll", ("g", "b", 0.0): "ll", ("g", "b", 1.0): "hl",
    }  # fmt: skip
    found = chosen(replies, {"a": "pq", "b": "pq"}, "high")
    assert found.best == {
        "f": {"a": {"high": 1.0}, "b": {"high": 0.0}},
        "g": {"a": {"high": 0.0}, "b": {"high": 1.0}},
    }
    assert (found.reach["f"].value, found.reach["g"].value) == (1, 0.75)


def test_the_interval_is_over_personas_not_queries() -> None:
    # of two personas one succeeds always and one never: drawn again they give 0, 1/2 and 1, each often enough
    found = chosen({("f", "a", 0.0): "h" * 50 + "l" * 50}, {"a": "p" * 50 + "q" * 50}, "high").reach["f"]
    assert (found.value, found.low, found.high) == (0.5, 0, 1)
    # personas are drawn within a domain: of one that always succeeds and one that never does, always half is reached,
    # and what four personas may have missed is all that the interval has
    apart = chosen({("f", "a", 0.0): "hh", ("f", "b", 0.0): "ll"}, {"a": "pq", "b": "pq"}, "high").reach["f"]
    slack = 1 - 0.025 ** (1 / 4)
    assert (apart.value, apart.low, apart.high) == (0.5, pytest.approx(0.5 - slack / 2), pytest.approx(0.5 + slack / 2))


def test_the_interval_takes_queries_of_a_persona_together() -> None:
    found = chosen({("f", "a", 0.0): "hlll"}, {"a": "pqqq"}, "high").reach["f"]
    assert (found.value, found.low, found.high) == (0.25, 0, 1)


def test_of_one_persona_the_interval_is_unknown() -> None:
    replies = {("f", "a", 0.0): "hh", ("f", "b", 0.0): "hl"}
    found = chosen(replies, {"a": "pq", "b": "pp"}, "high").reach["f"]
    assert (found.value, found.low, found.high) == (0.75, None, None)


PERSONAS = {"a": "abcdefghijklmnopqrst"}


def of_twenty(count: int) -> str:
    return "h" * count + "l" * (20 - count)


def test_the_form_that_reaches_furthest_is_chosen() -> None:
    replies = {("one", "a", 0.5): of_twenty(5), ("wide", "a", 1.0): of_twenty(18), ("three", "a", 0.5): of_twenty(10)}
    found = chosen(replies, PERSONAS, "high")
    assert found.chosen == "wide" and found.turned == {"one": 0.5, "wide": 2.0, "three": 0.5}
    assert {form: gap.value for form, gap in found.behind.items()} == {"one": 0.65, "wide": 0.0, "three": 0.4}
    assert found.behind["three"].low > 0.15


def test_of_forms_that_cannot_be_told_apart_the_one_that_turns_least_is_chosen() -> None:
    replies = {("wide", "a", 1.0): of_twenty(18), ("one", "a", 1.0): of_twenty(17), ("less", "a", 0.5): of_twenty(9)}
    found = chosen(replies, PERSONAS, "high")
    assert found.chosen == "one" and found.behind["one"].low == 0.0  # one query of twenty
    # the difference is paired: as many hits on other queries are no tie of the same kind, but no difference either
    apart = chosen({("wide", "a", 1.0): of_twenty(10), ("one", "a", 1.0): of_twenty(10)[::-1]}, PERSONAS, "high")
    assert apart.behind["one"].low < -0.3 and apart.chosen == "one"


def test_a_gap_that_is_the_same_for_two_personas_is_not_certain() -> None:
    replies = {("wide", "a", 1.0): "hh", ("one", "a", 1.0): "ll"}
    found = chosen(replies, {"a": "pq"}, "high")
    slack = 1 - 0.025 ** (1 / 2)
    assert (found.behind["one"].value, found.behind["one"].low) == (1.0, pytest.approx(1 - slack))
    assert found.chosen == "wide" and found.reach["wide"].low == pytest.approx(1 - slack)
    close = {("wide", "a", 1.0): "hhhh", ("one", "a", 1.0): "hlhl"}
    assert chosen(close, {"a": "ppqq"}, "high").chosen == "one"  # by half, of two


def test_of_one_persona_only_the_highest_is_chosen() -> None:
    replies = {("wide", "a", 1.0): "hhh", ("one", "a", 1.0): "hhl"}
    assert chosen(replies, {"a": "ppp"}, "high").chosen == "wide"


def test_of_equal_forms_the_earliest_is_chosen_in_whatever_order_their_rates_are_added() -> None:
    # 3/10 + 2/10 + 1/10 is less than 1/10 + 2/10 + 3/10 in floating point
    assert (0.3 + 0.2 + 0.1) / 3 < (0.1 + 0.2 + 0.3) / 3
    rates = {"down": (3, 2, 1), "up": (1, 2, 3)}
    replies = {
        (form, domain, 0.0): "h" * count + "l" * (10 - count)
        for form, counts in rates.items()
        for domain, count in zip("abc", counts, strict=True)
    }
    found = chosen(replies, dict.fromkeys("abc", "pqrstuvwxy"), "high")
    assert found.reach["down"].value < found.reach["up"].value and found.chosen == "down"
