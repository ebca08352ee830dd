"""Statistics of a file of rows, against counts by hand and the standard library."""

import statistics as stdlib
from pathlib import Path
from typing import Any

import pytest
from published_rows import PROVENANCE, record

from alignvec.data.load import load_rows, shipped_file
from alignvec.data.publish import measure as measuring
from alignvec.data.publish.measure import measure
from alignvec.data.publish.statistics import Spread, Statistics, statistics
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError


def row(number: int, split: str = "train", **changes: Any) -> PreferenceRow:
    return PreferenceRow.model_validate(record(number, split, **changes))


def found(*rows: PreferenceRow, language: str = "en") -> Statistics:
    return statistics(measure(rows, language=language))


def test_a_spread_is_that_of_the_standard_library() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    spread = Spread.of([*values, float("nan")])
    assert spread is not None
    assert (spread.n, spread.minimum, spread.maximum) == (8, 1.0, 9.0)
    assert spread.mean == pytest.approx(stdlib.mean(values))
    assert spread.sd == pytest.approx(stdlib.stdev(values))
    quartiles = stdlib.quantiles(values, n=4, method="inclusive")
    assert [spread.lower_quartile, spread.median, spread.upper_quartile] == pytest.approx(quartiles)


def test_one_value_has_no_deviation_and_none_has_no_spread() -> None:
    one = Spread.of([2.0])
    assert one is not None
    assert (one.mean, one.sd) == (2.0, None)
    assert Spread.of([float("nan")]) is None


def test_rows_personas_and_topics_are_counted_by_domain_and_split() -> None:
    rows = [row(i) for i in range(4)] + [row(4, "test", topic="pain"), row(5, "test"), row(6, domain="legal")]
    result = found(*rows)
    parts = [(p.domain, p.split, p.rows, p.personas, p.topics) for p in result.parts]
    assert parts == [("legal", "train", 1, 1, 1), ("medical", "train", 4, 2, 1), ("medical", "test", 2, 1, 2)]
    assert (result.rows, result.personas) == (7, 4)
    assert [result.rows_of(split) for split in ("train", "validation", "test")] == [5, 0, 2]


def test_replies_without_spaces_have_words() -> None:
    same = [row(2 * i, responses={"low": "多喝水，多喝水。", "high": "请去医院"}) for i in range(3)]
    low, high = found(*same, language="zh").by_level.values()
    # 多喝 水 多喝 水, three times: 2 different words of 12, 2 different pairs of 9; 请去 医院: 2 of 6, 1 of 3
    assert (low.words.mean, low.distinct_words, low.distinct_pairs) == (4, 2 / 12, 2 / 9)
    assert (high.words.mean, high.distinct_words, high.distinct_pairs) == (2, 2 / 6, 1 / 3)


def test_lengths_overlap_and_distinct_words_by_hand() -> None:
    rows = [
        row(2 * i, responses={"low": "a " * low, "high": "b c " * (high // 2)})
        for i, (low, high) in enumerate([(5, 4), (15, 16), (25, 36), (26, 46)])
    ]
    result = found(*rows)
    assert result.levels == ("low", "high")
    assert result.by_level["low"].words.mean == (5 + 15 + 25 + 26) / 4
    # bins of ten words: low 0, 1, 2, 2; high 0, 1, 3, 4
    assert result.neighbours[0].overlap == 0.5
    assert result.neighbours[0].longer == 3 / 4
    low, high = result.by_level["low"], result.by_level["high"]
    assert low.distinct_words == 1 / 71
    assert high.distinct_words == 2 / 102
    assert high.distinct_pairs == 2 / (3 + 15 + 35 + 45)


def test_a_draw_in_length_counts_half() -> None:
    rows = [row(i, responses={"low": "one two", "high": "three four"}) for i in range(3)]
    assert found(*rows).neighbours[0].longer == 0.5


def test_readability_is_that_of_the_reply_and_missing_in_other_languages() -> None:
    rows = [row(i, responses={"low": "The cat sat on the mat.", "high": "?!"}) for i in range(2)]
    english, german = found(*rows), found(*rows, language="de")
    assert english.by_level["low"].reading_ease is not None
    assert english.by_level["low"].reading_ease.mean == pytest.approx(116.145)
    assert english.by_level["high"].reading_ease is None
    assert german.by_level["low"].reading_ease is None
    assert german.by_level["low"].grade is None


def test_exact_duplicates_are_counted_within_a_level() -> None:
    replies = [{"low": "same", "high": "one"}, {"low": "same", "high": "two"}, {"low": "other", "high": "same"}]
    rows = [row(i, query="Why?" if i < 2 else "How?", responses=r) for i, r in enumerate(replies)]
    result = found(*rows)
    assert result.duplicate_queries == 1
    assert {level: result.by_level[level].duplicates for level in ("low", "high")} == {"low": 1, "high": 0}


def test_origins_are_counted_and_what_is_not_said_is_missing() -> None:
    bare = {"persona": {"kind": "file", "name": "people.txt"}}
    later = {**PROVENANCE, "time": "2026-11-22T00:00:00Z"}
    rows = [row(0), row(1, provenance=later), row(2, provenance=bare), row(3, provenance=None)]
    origins = found(*rows).origins
    assert origins.missing == 1
    assert origins.personas == {"created: teacher-1": 2, "file: people.txt": 1}
    assert origins.licences == {"Apache-2.0": 2, "missing": 1}
    assert origins.teachers == {"teacher-1": 2, "missing": 1}
    assert origins.known_teachers == ("teacher-1",)
    assert origins.prompts == {"query: query/1#aaaa": 2, "reply: reply/1#bbbb": 2}
    assert origins.sampling == {"temperature 0.7, top_p 0.95, max_tokens 300": 2}
    assert (origins.first_time, origins.last_time) == ("2026-11-21T10:00:00Z", "2026-11-22T00:00:00Z")


def test_the_confound_is_there_where_lengths_differ_and_missing_for_one_persona() -> None:
    apart = [row(2 * i, responses={"low": "no " * (5 + i % 3), "high": "yes " * (50 + i % 7)}) for i in range(20)]
    result = found(*apart)
    assert (result.confound.chance, result.confound.by_word_count, result.confound.by_words) == (0.5, 1.0, 1.0)
    alone = found(row(0), row(1)).confound
    assert (alone.by_word_count, alone.by_words) == (None, None)


def test_the_shipped_data_says_what_its_readme_says() -> None:
    result = found(*load_rows(shipped_file("medical")))
    assert (result.rows, result.personas) == (200, 100)
    assert [result.rows_of(split) for split in ("train", "validation", "test")] == [140, 20, 40]
    assert result.confound.by_word_count == pytest.approx(0.91, abs=0.03)
    assert result.confound.by_words == pytest.approx(0.99, abs=0.01)


def test_the_sample_is_bounded_and_does_not_depend_on_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SAMPLE", 10)
    rows = [row(i) for i in range(60)]
    one, other = measure(rows), measure(rows[::-1])
    assert len(one.sample) == 10
    assert one.sample == other.sample
    assert {r.id for r in one.sample} != {r.id for r in rows[:10]}


def test_a_persona_in_two_splits_other_levels_and_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"row medical-1: its persona is in split 'test' here.*alignvec data split"):
        measure([row(0, persona="x"), row(1, "test", persona="x")])
    with pytest.raises(DataError, match="row medical-1 has levels low, high"):
        measure([row(0), row(1, responses={"low": "a", "high": "b"})])
    with pytest.raises(DataError, match="no rows"):
        measure(iter(()))


def test_only_the_sample_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    monkeypatch.setattr(measuring, "SAMPLE", 5)
    seen: list[weakref.ref[PreferenceRow]] = []
    most = 0

    def rows() -> Any:
        nonlocal most
        for i in range(200):
            made = row(i)
            seen.append(weakref.ref(made))
            yield made
            del made
            most = max(most, sum(ref() is not None for ref in seen))

    measure(rows())
    assert most <= 5 + 3
