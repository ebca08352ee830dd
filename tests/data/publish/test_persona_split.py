"""Splits by persona: stable, alike for all rows of a persona, in the shares that were asked for."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignvec.data.load import load_rows
from alignvec.data.publish.split import assign_splits, parse_ratios, split_of
from alignvec.errors import DataError
from tests.conftest import preference_record


def by_hand(persona: str, salt: str) -> str:
    """The published rule, from the whole digest as a fraction."""
    whole = hashlib.sha256(f"{salt}\n{persona}".encode()).hexdigest()
    point = int(whole, 16) / 16**64
    return "train" if point < 0.7 else "validation" if point < 0.8 else "test"


@given(st.text(alphabet="abc xyz", min_size=1), st.sampled_from(["", "again"]))
def test_it_is_the_hash_of_salt_and_persona_on_the_unit_interval(persona: str, salt: str) -> None:
    assert split_of(persona, salt=salt) == by_hand(" ".join(persona.split()), salt)


@pytest.mark.parametrize(
    "spelling", ["A  nurse in Leeds.", " a NURSE in leeds. ", "A nurse\nin Leeds.", "Ａ nurse in Leeds."]
)
def test_spelling_of_case_and_spaces_plays_no_part(spelling: str) -> None:
    for salt in "abcdefgh":
        assert split_of(spelling, salt=salt) == split_of("A nurse in Leeds.", salt=salt)


def test_shares_come_out_as_asked_for() -> None:
    counts = Counter(split_of(f"persona {i}", ratios=(0.5, 0.3, 0.2)) for i in range(20_000))
    for split, share in (("train", 0.5), ("validation", 0.3), ("test", 0.2)):
        assert counts[split] / 20_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)


def test_a_share_of_none_stays_empty() -> None:
    assert {split_of(f"persona {i}", ratios=(1, 0, 0)) for i in range(500)} == {"train"}
    assert {split_of(f"persona {i}", ratios=(0, 0, 1)) for i in range(500)} == {"test"}


def test_another_salt_deals_anew() -> None:
    assert len({tuple(split_of(f"p{i}", salt=salt) for i in range(40)) for salt in ("", "a", "b")}) == 3


@pytest.mark.parametrize("text", ["0.7,0.3", "a,b,c", "", "0.7,0.1,0.1", "0.9,0.2,-0.1", "nan,0.5,0.5", "inf,0,0"])
def test_ratios_that_are_no_shares_of_a_whole_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"0\.7,0\.1,0\.2"):
        parse_ratios(text)


def written(path: Path, *, domains: tuple[str, ...] = ("medical", "legal"), count: int = 60) -> Path:
    records = [preference_record(i, "test", domain) for domain in domains for i in range(count)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_rows_keep_everything_but_their_split(tmp_path: Path) -> None:
    source, out = written(tmp_path / "rows.jsonl"), tmp_path / "new" / "out.jsonl"
    counts = assign_splits(source, out)
    before, after = load_rows(source), load_rows(out)
    assert [row.model_copy(update={"split": "test"}) for row in after] == before
    assert counts == {split: sum(row.split == split for row in after) for split in ("train", "validation", "test")}
    assert all(row.split == split_of(row.persona) for row in after)
    home = {(row.persona, row.domain): row.split for row in after}
    assert all(home[persona, "medical"] == home[persona, "legal"] for persona, _ in home)


def test_more_rows_move_no_persona(tmp_path: Path) -> None:
    assign_splits(written(tmp_path / "a.jsonl", count=20), tmp_path / "a.out")
    assign_splits(written(tmp_path / "b.jsonl", count=90), tmp_path / "b.out")
    later = {row.id: row.split for row in load_rows(tmp_path / "b.out")}
    assert all(later[row.id] == row.split for row in load_rows(tmp_path / "a.out"))


def test_a_persona_in_two_splits_is_mended_in_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records = [{**preference_record(i, split), "persona": "one"} for i, split in enumerate(("train", "test"))]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(DataError, match="this persona is in split"):
        load_rows(path)
    assign_splits(path, path)
    assert len({row.split for row in load_rows(path)}) == 1


def test_a_bad_line_leaves_what_was_there(tmp_path: Path) -> None:
    source, out = written(tmp_path / "rows.jsonl"), tmp_path / "out.jsonl"
    out.write_text("mine")
    source.write_text(source.read_text() + '{"id": "cut')
    with pytest.raises(DataError, match=r"rows\.jsonl:121: the line: Invalid JSON"):
        assign_splits(source, out)
    assert out.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]
