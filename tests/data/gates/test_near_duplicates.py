"""Near-duplicates against Jaccard similarity over all pairs, written anew here."""

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.data.gates.duplicates import NearDuplicates, jaccard, shingles
from alignvec.data.load import load_rows, shipped_file
from alignvec.errors import AlignvecError, ConfigError, DataError, StorageError


def likeness(one: str, other: str) -> float:
    """Jaccard similarity of 4-letter shingles, by counting."""

    def pieces(text: str) -> list[str]:
        kept = "".join(c if c.isalnum() or c == "_" else " " for c in text.lower())
        kept = " ".join(kept.split())
        return [kept[i : i + 4] for i in range(len(kept) - 3)] or [kept]

    a, b = pieces(one), pieces(other)
    every = sorted({*a, *b})
    return sum(p in a and p in b for p in every) / len(every)


def reworded(text: str, changes: int, draw: random.Random) -> str:
    words = text.split()
    for place in draw.sample(range(len(words)), changes):
        words[place] = draw.choice(["really", "now", "usually", "also", "perhaps"])
    return " ".join(words)


@pytest.fixture(scope="module")
def queries() -> list[str]:
    return [row.query for row in load_rows(shipped_file("medical"))]


def test_the_similarity_of_a_pair_by_hand() -> None:
    # abcd bcde cdef against bcde cdef defg: 2 shared of 4.
    assert jaccard(shingles("abcdef"), shingles("BCDEFG!")) == 0.5
    assert shingles("A, b") == {"a b"}
    assert jaccard(shingles("..."), shingles("")) == 1.0


@given(st.lists(st.sampled_from(["sleep", "pain", "heart", "knee", "drug", "dose"]), max_size=8), st.text(max_size=9))
def test_shingles_agree_with_counting(words: list[str], other: str) -> None:
    text = " ".join(words)
    if other.isascii():
        assert jaccard(shingles(text), shingles(other)) == pytest.approx(likeness(text, other))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.7, 0.9]))
def test_what_is_found_is_the_nearest_of_all_pairs(seed: int, threshold: float) -> None:
    draw = random.Random(seed)
    rows = [row.query for row in load_rows(shipped_file("legal"))][:40]
    texts = [reworded(draw.choice(rows), draw.randrange(0, 8), draw) for _ in range(30)]
    with NearDuplicates(threshold=threshold) as known:
        for number, text in enumerate(texts):
            found = known.find(text)
            near = {str(i): likeness(text, texts[i]) for i in range(number)}
            best = max(near.values(), default=0.0)
            if best < threshold:
                assert found is None
            elif best > threshold + 0.1:  # so far above it the bands miss fewer than 1 in 50,000
                assert found is not None
                assert near[found] == best
                assert int(found) == min(int(i) for i, value in near.items() if value == best)
            known.add(str(number), text)


def test_two_changed_words_are_found_and_other_questions_are_not(queries: list[str]) -> None:
    draw = random.Random(0)
    with NearDuplicates() as known:
        for query in queries:
            assert known.find(query) is None
            known.add(query, query)
        long = [query for query in queries if len(query.split()) >= 20]
        found = {changes: sum(known.find(reworded(q, changes, draw)) == q for q in long) for changes in (1, 2, 3, 9)}
    assert len(long) > 150
    assert found[1] == len(long)
    assert found[2] >= 0.97 * len(long)
    assert found[3] >= 0.6 * len(long)
    assert found[9] <= 0.02 * len(long)


def test_letters_case_and_punctuation_do_not_matter_and_no_spaces_are_needed() -> None:
    with NearDuplicates() as known:
        known.add("a", "Is it safe to take ibuprofen?")
        known.add("b", "我头疼怎么办我应该去看医生吗")
        assert known.find("is it SAFE, to take: ibuprofen") == "a"
        assert known.find("我头疼怎么办我应该去看医生吧") == "b"
        assert known.find("") is None


def test_a_file_is_found_again_and_a_temporary_one_leaves_nothing(tmp_path: Path, queries: list[str]) -> None:
    path = tmp_path / "deep" / "queries.sqlite"
    with NearDuplicates(path) as known:
        for query in queries[:10]:
            known.add(query[:20], query)
    with NearDuplicates(path) as known:
        assert [known.find(query) for query in queries[:10]] == [query[:20] for query in queries[:10]]
        assert known.find(queries[10]) is None


def test_a_key_stands_for_one_text(tmp_path: Path) -> None:
    path = tmp_path / "known.sqlite"
    with NearDuplicates(path) as known:
        known.add("a", "one text that is long enough")
        known.add("a", "one text that is long enough")
        with pytest.raises(DataError, match="two texts have the key 'a'"):
            known.add("a", "another text altogether")
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*) FROM texts").fetchone() == (1,)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 1.01, -1.0])
def test_a_threshold_without_bands_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="cannot be found at a similarity"):
        NearDuplicates(threshold=threshold)


def test_a_file_of_another_threshold_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    NearDuplicates(tmp_path / "known.sqlite", threshold=0.7).close()
    with pytest.raises(DataError, match="another threshold than 0.9"):
        NearDuplicates(tmp_path / "known.sqlite", threshold=0.9)
    (tmp_path / "text").write_text("no database " * 200)
    with pytest.raises(DataError, match="move it away"):
        NearDuplicates(tmp_path / "text")
    with pytest.raises(AlignvecError) as told:
        NearDuplicates(tmp_path / "text" / "below.sqlite")
    assert isinstance(told.value, StorageError)
