"""Which reply comes next: blind, the same for the same rater and seed, and never two of one query in a row."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignvec.data.review.card import card, reminder
from alignvec.data.review.queue import Reply, ReviewQueue, Shown, spread
from alignvec.data.review.ratings import load_ratings
from alignvec.data.review.verdicts import Verdicts
from alignvec.data.schema import PreferenceRow


def make_rows(count: int, levels: Sequence[str] = ("avoidance", "generic", "expert")) -> list[PreferenceRow]:
    return [
        PreferenceRow(
            id=f"row-{i}",
            split="test",
            domain="veterinary",
            topic="dogs",
            persona=f"owner {i}",
            query=f"Question {i}?",
            responses={level: f"Text {i}/{chr(97 + place)}." for place, level in enumerate(levels)},
        )
        for i in range(count)
    ]


def make_queue(folder: Path, rows: list[PreferenceRow], *, seed: int = 0, limit: int | None = None) -> ReviewQueue:
    return ReviewQueue(rows, Verdicts(folder / "ratings.jsonl", rows), seed=seed, limit=limit)


def run_through(queue: ReviewQueue, rater: str, level: str = "generic") -> list[str]:
    texts, shown = [], queue.next(rater)
    while shown:
        texts.append(shown.text)
        assert queue.judge(rater, shown.ticket, level, None)
        shown = queue.next(rater, after=shown.ticket)
    return texts


def must(shown: Shown | None) -> Shown:
    assert shown is not None
    return shown


def test_everybody_sees_every_reply_once_in_an_order_of_their_own_that_a_restart_keeps(tmp_path: Path) -> None:
    rows = make_rows(8)
    everything = sorted(text for row in rows for text in row.responses.values())
    ann = run_through(make_queue(tmp_path / "1", rows, seed=3), "ann")
    assert sorted(ann) == everything
    assert run_through(make_queue(tmp_path / "2", rows, seed=3), "ann") == ann
    others = [
        run_through(make_queue(tmp_path / "3", rows, seed=4), "ann"),
        run_through(make_queue(tmp_path / "4", rows, seed=3), "ben"),
    ]
    for other in others:
        assert sorted(other) == everything
        assert other != ann


def test_a_limit_gives_all_raters_the_same_replies_of_different_queries(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, make_rows(8), limit=6)
    ann, ben = run_through(queue, "ann"), run_through(queue, "ben")
    assert set(ann) == set(ben)
    assert len({text.split("/")[0] for text in ann}) == 6  # of 8 queries, so that none tells about another


def repeats(rows: Sequence[str]) -> int:
    return sum(a == b for a, b in itertools.pairwise(rows))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4).filter(lambda counts: sum(counts) <= 7), st.integers(0, 50))
def test_adjacent_replies_are_of_different_queries_wherever_any_order_can_do_it(counts: list[int], seed: int) -> None:
    rows = make_rows(len(counts), levels=("a", "b", "c", "d"))
    replies = [
        Reply(row, level) for row, count in zip(rows, counts, strict=True) for level in list(row.responses)[:count]
    ]
    order = spread(replies, Random(seed))
    assert Counter(reply.key for reply in order) == Counter(reply.key for reply in replies)
    best = min(repeats(perm) for perm in set(itertools.permutations(reply.row.id for reply in replies)))
    assert repeats([reply.row.id for reply in order]) == best


def test_no_level_comes_early_or_late(tmp_path: Path) -> None:
    rows = make_rows(300)
    replies = [Reply(row, level) for row in rows for level in row.responses]
    first = Counter(reply.level for reply in spread(replies, Random(1))[:300])
    for count in first.values():  # binomial: mean 100, standard deviation 8.2
        assert 100 - 33 < count < 100 + 33
    queries = [reply.row.id for reply in spread(replies, Random(1))]
    assert len(set(queries[:300])) == 300  # a query comes again only when all have come


def test_what_is_shown_holds_nothing_but_texts(tmp_path: Path) -> None:
    rows = make_rows(5, levels=("evade", "plain", "deep"))
    shown = must(make_queue(tmp_path, rows).next("ann"))
    told = repr(shown) + card(shown)
    for hidden in ("row-", "evade", "plain", "deep", "owner"):
        assert hidden not in told
    texts = [text for row in rows for text in row.responses.values() if text in told]
    assert texts == [shown.text]
    fingerprints = {must(make_queue(tmp_path / str(seed), rows, seed=seed).next("ann")).ticket for seed in range(5)}
    assert len(fingerprints) == 5  # a ticket of one order means nothing in another


def test_going_back_shows_ones_own_verdict_and_the_last_line_counts(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, make_rows(4))
    seen = []
    for level in ("avoidance", "generic"):
        seen.append(must(queue.next("ann")))
        queue.judge("ann", seen[-1].ticket, level, None)
    third = must(queue.next("ann"))
    last = must(queue.back("ann", third.ticket))
    first = must(queue.back("ann", last.ticket))
    assert (last.text, last.level, last.number) == (seen[1].text, "generic", 2)
    assert (first.text, first.level, first.number) == (seen[0].text, "avoidance", 1)
    assert "You said: avoidance" in card(first)
    assert queue.back("ann", first.ticket) is None

    queue.judge("ann", last.ticket, "expert", "unsafe")
    assert must(queue.next("ann", after=last.ticket)).ticket == third.ticket
    changed = must(queue.back("ann", third.ticket))
    assert (changed.text, changed.level, changed.flag) == (seen[1].text, "expert", "unsafe")
    assert queue.rated("ann") == 2
    assert len((tmp_path / "ratings.jsonl").read_text().splitlines()) == 3
    assert sorted((r.level, r.flag) for r in load_ratings(tmp_path / "ratings.jsonl")) == [
        ("avoidance", None),
        ("expert", "unsafe"),
    ]


def test_skipped_replies_come_last(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, make_rows(4))
    first = must(queue.next("ann"))
    queue.skip("ann", first.ticket)
    rest = run_through(queue, "ann")
    assert rest[-1] == first.text
    assert len(set(rest)) == 12
    assert queue.next("ann") is None


def test_one_left_the_rest_goes_on_after_a_restart(tmp_path: Path) -> None:
    rows = make_rows(4)
    whole = run_through(make_queue(tmp_path / "whole", rows), "ann")
    begun = make_queue(tmp_path, rows)
    for _ in range(5):
        begun.judge("ann", must(begun.next("ann")).ticket, "expert", None)
    again = make_queue(tmp_path, rows)
    assert must(again.next("ann")).number == 6
    assert run_through(again, "ann") == whole[5:]


@pytest.mark.parametrize("ticket", ["", "x", "0-0", "{f}-99", "{f}--1", "{f}-", "{f}-²", "{other}-0"])
def test_a_ticket_of_another_queue_saves_nothing(tmp_path: Path, ticket: str) -> None:
    queue = make_queue(tmp_path, make_rows(2))
    mine, other = (must(queue.next(name)).ticket.split("-")[0] for name in ("ann", "ben"))
    assert not queue.judge("ann", ticket.format(f=mine, other=other), "expert", None)
    assert (tmp_path / "ratings.jsonl").read_text() == ""


def test_texts_are_escaped(tmp_path: Path) -> None:
    row = make_rows(1)[0].model_copy(
        update={"query": "<img src=x>", "responses": {"a": "1 < 2 & <script>", "b": "1 < 2 & <script>"}}
    )
    html = card(must(make_queue(tmp_path, [row]).next("ann")), "<b>")
    assert "<img" not in html and "<script" not in html and "<b>" not in html
    assert "1 &lt; 2 &amp; &lt;script&gt;" in html


def test_definitions_are_escaped_and_none_leave_nothing() -> None:
    told = reminder({"terse": "Under <5> words.", "long": "More."})
    assert "<dt>terse</dt><dd>Under &lt;5&gt; words.</dd><dt>long</dt><dd>More.</dd>" in told
    assert reminder({}) == ""
