"""Preference sets in the published schemas become rows; whatever does not is kept with its reason."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.data.foreign.formats import Reading
from alignvec.data.load import levels_of, load_rows
from alignvec.data.pairs import parse_order, preference_pairs
from alignvec.data.preference_sets import HEAD, Imported, import_pairs
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError

Records = list[dict[str, Any]]


def lines(path: Path, records: Records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def imported(file: Path, **options: Any) -> tuple[Imported, list[PreferenceRow], Records]:
    """The report, the rows as training reads them, and the rejected records."""
    out, rejected = file.parent / "out" / "rows.jsonl", file.parent / "out" / "rejected.jsonl"
    done = import_pairs(file, out, rejected, **options)
    return done, load_rows(out), [json.loads(line) for line in rejected.read_text().splitlines()]


def safe_record(number: int, **changes: Any) -> dict[str, Any]:
    """A record as PKU-SafeRLHF publishes it (June 2024 and later); the safer reply is 0, the better one 1."""
    return {
        "prompt": f"How do I open lock {number}?",
        "response_0": f"Call a locksmith, number {number}.",
        "response_1": f"Take two picks, number {number}.",
        "prompt_source": "BeaverTails",
        "response_0_source": "Alpaca-7B",
        "response_1_source": "Alpaca-7B",
        "is_response_0_safe": True,
        "is_response_1_safe": False,
        "response_0_harm_category": {"Violence": False, "White-Collar Crime": False},
        "response_1_harm_category": {"Violence": False, "White-Collar Crime": True},
        "response_0_severity_level": 0,
        "response_1_severity_level": 2,
        "better_response_id": 1,
        "safer_response_id": 0,
        "response_0_sha256": "0" * 64,
        "response_1_sha256": "1" * 64,
        **changes,
    }


def hh_record(chosen: str, rejected: str, *before: str) -> dict[str, Any]:
    """A record as hh-rlhf publishes it; `before` is what was said before, the user first."""
    start = "".join(f"\n\n{'Assistant' if i % 2 else 'Human'}: {said}" for i, said in enumerate(before))
    return {"chosen": f"{start}\n\nAssistant: {chosen}", "rejected": f"{start}\n\nAssistant: {rejected}"}


def ultra_record(number: int, *, scores: tuple[float, float] = (8.5, 6.0), **changes: Any) -> dict[str, Any]:
    """A record as ultrafeedback_binarized publishes it (split train_prefs)."""
    prompt = f"Name {number} rivers."

    def talk(reply: str) -> Records:
        return [{"content": prompt, "role": "user"}, {"content": reply, "role": "assistant"}]

    chosen, rejected = talk("Rhine, Nile."), talk("I cannot.")
    return {
        "prompt": prompt,
        "prompt_id": f"{number:064d}",
        "chosen": chosen,
        "rejected": rejected,
        "messages": chosen,
        "score_chosen": scores[0],
        "score_rejected": scores[1],
        **changes,
    }


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
    assert (done.rows, done.notes) == (2, {"the chosen reply is flagged unsafe": 1})


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


def as_jsonl(path: Path, records: Records) -> Path:
    return lines(path.with_suffix(".jsonl"), records)


def as_gz(path: Path, records: Records) -> Path:
    path = path.with_suffix(".jsonl.gz")
    path.write_bytes(
        gzip.compress("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode("utf-8-sig"))
    )
    return path


def as_json(path: Path, records: Records) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps(records, indent=1), encoding="utf-8-sig")
    return path


def as_lines_in_json(path: Path, records: Records) -> Path:
    return lines(path.with_suffix(".json"), records)


def as_csv(path: Path, records: Records) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, records[0])
        writer.writeheader()
        writer.writerows(records)
    return path


def as_parquet(path: Path, records: Records) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


KINDS = (as_jsonl, as_gz, as_json, as_lines_in_json, as_csv, as_parquet)


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, write: Callable[[Path, Records], Path]) -> None:
    # words that a reader of tables takes for numbers, dates or nothing
    odd = ["None", "N/A", "007", "2026-01-01", "true", 'ü, "quoted"\nand broken', "x" * 200_000]
    records = [safe_record(i, response_0=text) for i, text in enumerate(odd)]
    for record in records if write is as_csv else ():
        del record["response_0_harm_category"], record["response_1_harm_category"]
    _, rows, _ = imported(write(tmp_path / "set", records))
    assert [row.responses["chosen"] for row in rows] == odd
    assert {row.query for row in rows} == {f"How do I open lock {i}?" for i in range(len(odd))}


@pytest.mark.parametrize("write", [as_jsonl, as_parquet])
def test_lists_of_messages_are_read_from_parquet_too(tmp_path: Path, write: Callable[[Path, Records], Path]) -> None:
    done, rows, _ = imported(write(tmp_path / "uf", [ultra_record(1)]))
    assert (done.format, rows[0].responses["chosen"]) == ("ultrafeedback", "Rhine, Nile.")


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", [{"question": "Why?", "good": "a", "bad": "b", "prompt": "not this"}])
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    _, rows, _ = imported(path, columns=columns)
    assert (rows[0].query, rows[0].responses["chosen"]) == ("Why?", "a")
    with pytest.raises(DataError, match=r"no column 'gud' to map chosen to \(has: question, good, bad, prompt\)"):
        imported(path, columns={**columns, "chosen": "gud"})
    with pytest.raises(DataError, match="no format has a column 'chosn'"):
        imported(path, columns={"chosn": "good"})


@pytest.mark.parametrize(
    ("format", "complaint"),
    [
        ("auto", r"no format fits its columns \(question, answer\).*--map prompt=COLUMN"),
        ("pairs", r"no column prompt, chosen, rejected, which pairs needs \(has: question, answer\).*--map prompt="),
        ("safe-rlhf", "no column prompt, response_0, response_1, safer_response_id"),
        ("hh-rlhf", "no column chosen, rejected, which hh-rlhf needs"),
    ],
)
def test_missing_columns_are_told_with_the_way_to_map_them(tmp_path: Path, format: Any, complaint: str) -> None:
    path = lines(tmp_path / "mine.jsonl", [{"question": "Why?", "answer": "a"}])
    with pytest.raises(DataError, match=complaint):
        imported(path, format=format)
    assert not (tmp_path / "out").exists()


def test_the_first_records_only(tmp_path: Path) -> None:
    records = [{"prompt": f"Why {i}?", "chosen": "a", "rejected": "b" if i else "a"} for i in range(9)]
    done, rows, rejected = imported(lines(tmp_path / "mine.jsonl", records), limit=4)
    assert (done.read, len(rows), len(rejected)) == (4, 3, 1)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl.gz", gzip.compress(b""), "the file is empty"),
        ("a.json", b"[]", "the file is empty"),
        ("a.json", b" ", "the file is empty"),
        ("a.csv", b"prompt,chosen,rejected\n", "the file is empty"),
        ("a.csv", b"", "the file is empty"),
        ("a.jsonl", bytes(range(256)) * 9, "cannot read .* as jsonl"),
        ("a.jsonl", b'{"prompt": "a", "cho', r"a\.jsonl:1: not valid JSON"),
        ("a.jsonl", b'["a"]', r"a\.jsonl:1: not a JSON object with named fields"),
        ("a.jsonl", b'{"a":' + b"[" * 100_000, r"a\.jsonl:1: not (valid|usable) JSON"),
        ("a.json", b'[{"prompt": "a"}, ', "cannot read .* as json"),
        ("a.json", b"[1, 2]", "entry 1 of the list is no object"),
        ("a.json", b"[" * 100_000, "nested too deeply|cannot read"),
        ("a.jsonl.gz", b"no gzip at all", "cannot read .* as jsonl"),
        ("a.parquet", b"", "cannot read .* as parquet"),
        ("a.parquet", b"PAR1" + bytes(200) + b"PAR1", "cannot read .* as parquet"),
        ("a.csv", b'prompt,chosen,rejected\n"a,b,c\n', "cannot read .* as csv"),
        ("a.csv", b"prompt,chosen,rejected\na,b,c,d\n", r"a\.csv:2: more cells than columns"),
        ("a.txt", b"hello", r"unknown kind of file; it must end in one of \.jsonl"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        imported(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def broken_lines(path: Path, good: int, *broken: str) -> Path:
    """The broken lines, a blank one, then good records."""
    records = [{"prompt": f"Why {i}?", "chosen": "a", "rejected": "b"} for i in range(good)]
    text = "".join(line + "\n" for line in [*broken, "", *map(json.dumps, records)])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_broken_lines_are_rejected_with_number_text_and_reason(tmp_path: Path, name: str) -> None:
    broken = ['{"prompt": "a\tb"}', '{"prompt": "a", "cho', '["a"]', '{"a": ' + "1" * 5000 + "}"]
    done, rows, rejected = imported(broken_lines(tmp_path / name, 3, *broken))
    assert [row.query for row in rows] == ["Why 0?", "Why 1?", "Why 2?"]
    assert [(r["number"], r["line"], r["text"]) for r in rejected] == [
        (number, number, text) for number, text in enumerate(broken, start=1)
    ]
    assert [r["reason"] for r in rejected] == [
        *["not valid JSON"] * 2,
        "not a JSON object with named fields",
        "not usable JSON",
    ]
    assert rejected[0]["detail"] == f"Invalid control character at column {broken[0].index(chr(9)) + 1}"
    assert (done.read, done.rows, sum(done.rejected.values())) == (7, 3, 4)
    path = tmp_path / "late.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\nnonsense\r\n")
    assert [(r["number"], r["line"], r["text"]) for r in imported(path)[2]] == [(2, 3, "nonsense")]


def test_a_file_of_broken_lines_is_told_by_its_first(tmp_path: Path) -> None:
    path = broken_lines(tmp_path / "mine.jsonl", 0, '{"a": "b\tc"}', "also")
    with pytest.raises(DataError, match=r"mine\.jsonl:1: not valid JSON \(Invalid control character at column 9\); "):
        imported(path)
    assert imported(broken_lines(path, 1, *["no"] * (HEAD - 1)))[0].rejected == {"not valid JSON": HEAD - 1}
    with pytest.raises(DataError, match=r"mine\.jsonl:1: not valid JSON"):
        imported(broken_lines(path, 1, *["no"] * HEAD))
    one_object = broken_lines(tmp_path / "mine.json", 1, '{"data": [')
    with pytest.raises(DataError, match=r"mine\.json:1: not valid JSON"):
        imported(one_object)


@pytest.mark.parametrize("kind", ["gz", "parquet"])
def test_a_file_that_was_cut_short_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    records = [{"prompt": f"Why {i}?", "chosen": f"{i * 7919}", "rejected": "b"} for i in range(5000)]
    path = (as_gz if kind == "gz" else as_parquet)(tmp_path / "set", records)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rows.jsonl").write_text("mine")
    with pytest.raises(DataError, match="cannot read .*damaged or cut short"):
        imported(path)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["rows.jsonl"]
    assert (tmp_path / "out" / "rows.jsonl").read_text() == "mine"


def test_a_missing_file_no_rows_and_one_file_for_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file at"):
        imported(tmp_path / "none.jsonl")
    path = lines(tmp_path / "mine.jsonl", [{"prompt": "Why?", "chosen": "a", "rejected": "a"}] * 3)
    with pytest.raises(DataError, match="none of its 3 records makes a row .3 chosen and rejected are the same.;"):
        imported(path)
    with pytest.raises(DataError, match="must be three files"):
        import_pairs(path, path, tmp_path / "rejected.jsonl")


VALUE = st.one_of(st.none(), st.integers(), st.text(max_size=4), st.sampled_from(["a", "b", "\ud800"]))
RECORD = st.fixed_dictionaries({}, optional={"prompt": VALUE, "chosen": VALUE, "rejected": VALUE})
GOOD = {"prompt": "Why?", "chosen": "yes", "rejected": "no"}


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORD, max_size=12))
def test_every_record_is_a_row_or_rejected(tmp_path_factory: pytest.TempPathFactory, others: Records) -> None:
    records = [GOOD, *others]
    done, rows, rejected = imported(lines(tmp_path_factory.mktemp("p") / "set.jsonl", records), format="pairs")
    assert len(rows) + len(rejected) == len(records) == done.read
    numbers = {r["number"] for r in rejected}
    assert [r["record"] for r in rejected] == [records[n - 1] for n in sorted(numbers)]
    kept = [r for n, r in enumerate(records, start=1) if n not in numbers]
    made = [(row.query, row.responses["chosen"], row.responses["rejected"]) for row in rows]
    assert made == [(r["prompt"].strip(), r["chosen"].strip(), r["rejected"].strip()) for r in kept]


def test_the_trainer_takes_the_rows(tmp_path: Path) -> None:
    from alignvec.train.config import make_config

    done, _, _ = imported(lines(tmp_path / "pku.jsonl", [safe_record(i) for i in range(30)]))
    config = make_config("test", {"name": "safety", "data": tmp_path / "out" / "rows.jsonl", "order": done.order})
    assert config.data is not None
    rows = load_rows(config.data, split=config.split)
    assert len(rows) == done.splits["train"]
    sides = {side: preference_pairs(rows, parse_order(order)) for side, order in config.orders().items()}
    assert all(pair.chosen.startswith("Call a locksmith") for pair in sides["positive"])
    assert all(pair.chosen.startswith("Take two picks") for pair in sides["negative"])
