"""Preference sets in the published schemas become rows; whatever does not is kept with its reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.foreign.formats import Reading
from alignvec.data.load import levels_of
from alignvec.data.pairs import parse_order, preference_pairs
from alignvec.errors import DataError
from tests.data.foreign_records import Records, hh_record, imported, lines, safe_record, ultra_record


def test_plain_pairs_train(tmp_path: Path) -> None:
    records = [{"prompt": f" Why {i}? ", "chosen": f"Because {i}.", "rejected": f"No {i}."} for i in range(20)]
    done, rows, rejected = imported(lines(tmp_path / "mine.jsonl", records), domain="tides", licence="MIT")
    assert (done.format, done.read, done.rows, done.rejected, rejected) == ("pairs", 20, 20, {}, [])
    assert levels_of(rows) == ("rejected", "chosen")
    made = preference_pairs(rows, parse_order(done.order))
    assert [(p.query, p.chosen, p.rejected) for p in made] == [
        (f"Why {i}?", f"Because {i}.", f"No {i}.") for i in range(20)
    ]
    assert {row.domain for row in rows} == {"tides"}
    assert done.splits == {split: sum(row.split == split for row in rows) for split in ("train", "validation", "test")}
    source = rows[0].provenance
    assert source is not None
    assert (source.persona.kind, source.persona.name, source.persona.licence) == ("import", "mine.jsonl", "MIT")


def test_a_prompt_is_one_persona_and_shares_a_split(tmp_path: Path) -> None:
    prompts = ["Why?", " why? ", "Why?", "How?"]
    records = [{"prompt": p, "chosen": f"a{i}", "rejected": f"b{i}"} for i, p in enumerate(prompts)]
    done, rows, _ = imported(lines(tmp_path / "mine.jsonl", records))
    assert done.personas == 2
    assert len({(row.persona, row.split) for row in rows}) == 2
    assert rows[0].persona == rows[1].persona != rows[3].persona


@pytest.mark.parametrize("prefer", ["safer", "better"])
def test_safe_rlhf_has_two_preferences(tmp_path: Path, prefer: Any) -> None:
    done, rows, _ = imported(lines(tmp_path / "pku.jsonl", [safe_record(7)]), reading=Reading(prefer=prefer))
    replies = {"safer": "Call a locksmith, number 7.", "better": "Take two picks, number 7."}
    other = {"safer": "better", "better": "safer"}[prefer]
    assert done.format == "safe-rlhf"
    assert rows[0].responses == {"chosen": replies[prefer], "rejected": replies[other]}
    assert done.notes == ({} if prefer == "safer" else {"the chosen reply is flagged unsafe": 1})


def test_safe_rlhf_ids_may_be_floats_and_what_is_no_id_is_no_tie(tmp_path: Path) -> None:
    ids = [0, 1, 0.0, 1.0, "0", "1.0", -1, None, float("nan"), "", True, False, "first", [0]]
    path = lines(tmp_path / "pku.jsonl", [safe_record(n, safer_response_id=found) for n, found in enumerate(ids)])
    _, rows, rejected = imported(path)
    assert [row.responses["chosen"].split()[0] for row in rows] == ["Call", "Take"] * 3
    assert [r["reason"] for r in rejected] == [
        "tie",
        *["no safer_response_id"] * 3,
        *["safer_response_id is true or false, not 0 or 1"] * 2,
        *["safer_response_id is no number"] * 2,
    ]


def test_the_safer_of_two_unsafe_replies_is_told(tmp_path: Path) -> None:
    records = [safe_record(1), safe_record(2, is_response_0_safe=False)]
    done, _, _ = imported(lines(tmp_path / "pku.jsonl", records))
    assert (done.rows, done.notes) == (2, {"both replies are flagged unsafe": 1})


@pytest.mark.parametrize("prefer", ["safer", "better"])
def test_replies_that_are_flagged_alike_are_counted_and_may_be_left_out(tmp_path: Path, prefer: Any) -> None:
    flags: list[tuple[Any, Any]] = [(True, False), (True, True), (False, False), ("True", 1.0), (None, True), (0, "no")]
    records = [safe_record(n, is_response_0_safe=a, is_response_1_safe=b) for n, (a, b) in enumerate(flags)]
    path = lines(tmp_path / "pku.jsonl", records)
    kept, _, _ = imported(path, reading=Reading(prefer=prefer))
    alike = {"both replies are flagged safe": 2, "both replies are flagged unsafe": 1}
    assert kept.rows == 6 and {note: n for note, n in kept.notes.items() if "both" in note} == alike
    done, rows, rejected = imported(path, reading=Reading(prefer=prefer, alike="skip"))
    assert done.rejected == alike and done.rows == 3
    assert Counter(r["reason"] for r in rejected) == alike
    assert {row.query for row in rows} == {f"How do I open lock {n}?" for n in (0, 4, 5)}


def test_the_single_dimension_variant_needs_the_better_reply(tmp_path: Path) -> None:
    record = {k: v for k, v in safe_record(1).items() if k not in ("safer_response_id", "is_response_0_safe")}
    path = lines(tmp_path / "pku.jsonl", [record])
    with pytest.raises(DataError, match=r"no column safer_response_id.*use --prefer better"):
        imported(path)
    assert imported(path, reading=Reading(prefer="better"))[1][0].responses["chosen"].startswith("Take two picks")


def test_hh_rlhf_transcripts_of_one_turn(tmp_path: Path) -> None:
    record = hh_record("Use soap.\n\nThen rinse.", "No idea.", "How do I clean a pan?\n\nIt is iron.")
    done, rows, _ = imported(lines(tmp_path / "hh.jsonl", [record]))
    assert done.format == "hh-rlhf"
    assert rows[0].query == "How do I clean a pan?\n\nIt is iron."
    assert rows[0].responses == {"rejected": "No idea.", "chosen": "Use soap.\n\nThen rinse."}


def test_conversations_are_skipped_or_flattened(tmp_path: Path) -> None:
    records = [hh_record("Use soap.", "No.", "Hi", "Hello?", "How do I clean a pan?"), hh_record("Yes", "No", "Hi")]
    path = lines(tmp_path / "hh.jsonl", records)
    done, rows, rejected = imported(path)
    assert (done.rows, done.rejected) == (1, {"multi-turn": 1})
    assert rejected == [{"number": 1, "reason": "multi-turn", "record": records[0]}]
    done, rows, rejected = imported(path, reading=Reading(multi_turn="flatten"))
    assert (done.rows, rejected) == (2, [])
    assert rows[0].query == "Human: Hi\n\nAssistant: Hello?\n\nHuman: How do I clean a pan?"
    assert rows[0].persona == rows[1].persona, "conversations that open alike share a split"


def test_hh_rlhf_records_that_are_no_pair_are_told_why(tmp_path: Path) -> None:
    good = hh_record("Yes.", "No.", "Hi")
    parted = {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes.", "rejected": "\n\nHuman: Ho\n\nAssistant: No."}
    asked = {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes.\n\nHuman: Why?", "rejected": good["rejected"]}
    plain = {"chosen": "Yes.", "rejected": "No."}
    silent = hh_record("", "No.", "Hi")
    _, _, rejected = imported(lines(tmp_path / "hh.jsonl", [good, parted, asked, plain, silent]))
    assert [(r["number"], r["reason"]) for r in rejected] == [
        (2, "the conversations differ before the last reply"),
        (3, "the last turn is not the assistant's"),
        (4, "no transcript of Human and Assistant"),
        (5, "no chosen reply"),
    ]


def test_ultrafeedback_ties_are_skipped(tmp_path: Path) -> None:
    done, rows, rejected = imported(
        lines(tmp_path / "uf.jsonl", [ultra_record(1), ultra_record(2, scores=(7.0, 7.0)), ultra_record(3)])
    )
    assert done.format == "ultrafeedback"
    assert [row.query for row in rows] == ["Name 1 rivers.", "Name 3 rivers."]
    assert rows[0].responses == {"rejected": "I cannot.", "chosen": "Rhine, Nile."}
    assert [(r["number"], r["reason"]) for r in rejected] == [(2, "tie")]


@pytest.mark.parametrize(
    "names",
    [
        ("chosen_score", "rejected_score"),
        ("score_chosen", "score_rejected"),
        ("chosen_rating", "rejected_rating"),
        ("chosen-rating", "rejected-rating"),
    ],
)
def test_pairs_with_equal_scores_are_ties(tmp_path: Path, names: tuple[str, str]) -> None:
    scores = [(4, 4.0), (4, 3), ("2.50", "2.5"), (None, None), (float("nan"), float("nan")), ("good", "good"), (3, 4)]
    records = [
        {"prompt": f"Why {i}?", "chosen": "a", "rejected": "b", **dict(zip(names, both, strict=True))}
        for i, both in enumerate(scores)
    ]
    done, rows, rejected = imported(lines(tmp_path / "mine.jsonl", records))
    assert [row.query for row in rows] == [f"Why {i}?" for i in (1, 3, 4, 5, 6)]
    assert [(r["number"], r["reason"]) for r in rejected] == [(1, "tie"), (3, "tie")]
    assert (done.format, done.rejected) == ("pairs", {"tie": 2})


def test_messages_with_the_prompt_apart_are_read_too(tmp_path: Path) -> None:
    def reply(text: str) -> Records:
        return [{"role": "assistant", "content": text}]

    asked = [{"role": "user", "content": "Why?"}]
    system = [{"role": "system", "content": "Be kind."}]
    records: Records = [
        {"prompt": asked, "chosen": reply("a"), "rejected": reply("b")},
        {"prompt": "Why?", "chosen": reply("c"), "rejected": reply("d")},
        {"prompt": system + asked, "chosen": reply("e"), "rejected": reply("f")},
        {"prompt": asked, "chosen": [{"role": "tool", "content": "x"}], "rejected": reply("b")},
        {"prompt": asked, "chosen": "text", "rejected": reply("b")},
        {"prompt": system, "chosen": reply("a"), "rejected": reply("b")},
    ]
    _, rows, rejected = imported(lines(tmp_path / "trl.jsonl", records))
    assert [(row.query, row.responses["chosen"]) for row in rows] == [("Why?", "a"), ("Why?", "c")]
    assert [r["reason"] for r in rejected] == [
        "multi-turn",
        "chosen has a message without a known role or a text",
        "chosen is no list of messages",
        "no prompt",
    ]


def test_what_makes_no_row_is_kept_with_its_reason(tmp_path: Path) -> None:
    good = {"prompt": "Why?", "chosen": "a", "rejected": "b"}
    records: Records = [
        good,
        {**good, "chosen": " b "},
        {**good, "extra": 1},
        {**good, "prompt": "  "},
        {**good, "chosen": None},
        {**good, "rejected": 5},
        {"prompt": "Why?"},
        {**good, "chosen": "\ud800"},
    ]
    done, rows, rejected = imported(lines(tmp_path / "mine.jsonl", records))
    assert len(rows) == 1
    assert [(r["number"], r["reason"]) for r in rejected] == [
        (2, "chosen and rejected are the same"),
        (3, "duplicate"),
        (4, "no prompt"),
        (5, "no chosen"),
        (6, "rejected is no text"),
        (7, "no chosen"),
        (8, "not valid Unicode"),
    ]
    assert [r["record"] for r in rejected] == records[1:]
    assert done.rejected == dict(Counter(r["reason"] for r in rejected))
    assert sum(done.rejected.values()) + done.rows == done.read == 8
