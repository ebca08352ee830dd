"""The preference data that comes with the project."""

import json
from collections import Counter

import pytest

from alignvec.data.load import SHIPPED, levels_of, load_rows, shipped_file
from alignvec.data.schema import LEVELS

DOMAINS = ("medical", "legal", "financial")


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_has_two_hundred_rows_in_splits_of_seventy_ten_and_twenty_percent(domain: str) -> None:
    rows = load_rows(shipped_file(domain))
    assert Counter(row.split for row in rows) == {"train": 140, "validation": 20, "test": 40}
    assert {row.domain for row in rows} == {domain}
    assert levels_of(rows) == LEVELS


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_persona_asks_twice_and_is_in_one_split(domain: str) -> None:
    rows = load_rows(shipped_file(domain))
    assert set(Counter(row.persona for row in rows).values()) == {2}
    home = Counter(persona for persona, _ in {(row.persona, row.split) for row in rows})
    assert len(home) == 100
    assert set(home.values()) == {1}


def test_the_general_rows_are_forty_and_for_tests_only() -> None:
    rows = load_rows(shipped_file("general"))
    assert Counter(row.split for row in rows) == {"test": 40}
    assert levels_of(rows) == LEVELS


def test_no_query_and_no_reply_stands_twice_in_all_of_it() -> None:
    rows = [row for domain in (*DOMAINS, "general") for row in load_rows(shipped_file(domain))]
    texts = Counter(text for row in rows for text in (row.query, *row.responses.values()))
    assert [text for text, count in texts.items() if count > 1] == []
    assert len({row.id for row in rows}) == len(rows) == 640


def test_no_persona_is_trained_on_in_one_domain_and_tested_in_another() -> None:
    rows = [row for domain in DOMAINS for row in load_rows(shipped_file(domain))]
    train = {row.persona for row in rows if row.split == "train"}
    assert train.isdisjoint(row.persona for row in rows if row.split != "train")


def test_both_raters_read_the_intended_level_in_all_seventy_two_replies() -> None:
    ratings = [json.loads(line) for line in (SHIPPED / "ratings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert Counter(rating["rater"] for rating in ratings) == {"model-rater-1": 72, "model-rater-2": 72}
    assert all(rating["level"] == rating["shown_level"] for rating in ratings)
    known = {row.id for domain in (*DOMAINS, "general") for row in load_rows(shipped_file(domain))}
    assert {rating["id"] for rating in ratings} <= known


def test_longer_replies_stand_at_higher_levels_in_the_median() -> None:
    rows = [row for domain in DOMAINS for row in load_rows(shipped_file(domain))]
    words = {level: sorted(len(row.responses[level].split()) for row in rows)[len(rows) // 2] for level in LEVELS}
    assert 35 <= words["avoidance"] <= 47
    assert 70 <= words["generic"] <= 82
    assert 92 <= words["expert"] <= 104
