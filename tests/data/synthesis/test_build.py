"""A whole build on a scripted teacher: what comes out, what is rejected, how it stops and goes on."""

import json
from collections import Counter
from pathlib import Path

import pytest

from alignvec.data.load import load_rows
from alignvec.data.publish.split import split_of
from alignvec.data.schema import PersonaSource
from alignvec.data.synthesis.build import build
from alignvec.data.synthesis.job import PersonaChoice
from alignvec.data.synthesis.personas import persona_texts
from alignvec.data.synthesis.settings import expected
from alignvec.data.teacher import pace
from alignvec.data.teacher.budget import Limits, Prices
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.errors import BudgetError, DataError, TeacherError
from tests.data.synthesis.building import PEOPLE, SETTINGS, fickle, job, key_of, records
from tests.scripted_teacher import Body, kind_of, reply_to, serving, text_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)


def test_every_query_gets_a_reply_at_every_level_with_its_provenance(tmp_path: Path) -> None:
    with serving() as teacher:
        report = build(job(teacher.url, tmp_path))
    rows = load_rows(tmp_path / "rows.jsonl")
    assert [row.id for row in rows] == [f"medical-{n:05d}-{k}" for n in range(6) for k in range(2)]
    for row in rows:
        assert {level: kind_of(text) for level, text in row.responses.items()} == {v: v for v in row.responses}
        assert row.split == split_of(row.persona)
        assert row.topic in SETTINGS.domain.topics
        made = row.provenance
        assert made is not None
        assert made.prompts.reply == SETTINGS.prompts.reply.reference
        assert made.prompts.judge == SETTINGS.prompts.judge.reference
        assert (made.teacher, made.judge, made.seed, made.persona.kind) == ("scripted", "scripted", 0, "created")
        assert made.sampling == SETTINGS.reply_sampling
        assert made.attempts == dict.fromkeys(row.responses, 1)
        assert made.time is not None
    assert len({row.persona for row in rows}) == 6
    assert report.rows.made == 12
    assert report.splits == dict(Counter(row.split for row in rows)) | {
        split: 0 for split in ("train", "validation", "test") if split not in {row.split for row in rows}
    }
    assert report.spending.answers == 6 + 12 + 12 * 3 * 2 == len(teacher.bodies)
    estimate = expected(SETTINGS, ("personas", "queries", "rows"), 6, 12, invented=True)
    assert estimate.requests == len(teacher.bodies)


def test_the_steps_alone_make_what_the_whole_build_makes(tmp_path: Path) -> None:
    with serving(answer=fickle) as teacher:
        build(job(teacher.url, tmp_path / "whole"))
        whole = len(teacher.bodies)
        for stage in ("personas", "queries", "rows"):
            report = build(job(teacher.url, tmp_path / "steps", stages=(stage,)))
            assert (report.personas is None) == (stage == "rows")
            assert (report.rows is None) == (stage != "rows")
    assert len(teacher.bodies) == 2 * whole
    for name in ("personas", "queries", "rows"):
        assert records(tmp_path / f"whole/{name}.jsonl") == records(tmp_path / f"steps/{name}.jsonl"), name

    def in_some_order(path: Path) -> list[str]:
        return sorted(map(json.dumps, records(path)))

    assert in_some_order(tmp_path / "whole/rejected.jsonl") == in_some_order(tmp_path / "steps/rejected.jsonl") != []


def test_a_query_edited_by_hand_is_answered_as_it_is(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=2, stages=("personas",)))
        build(job(teacher.url, tmp_path, stages=("queries",)))
        path = tmp_path / "queries.jsonl"
        lines = path.read_text().splitlines()
        first = json.loads(lines[0]) | {"text": "May I take ibuprofen with lisinopril?"}
        path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
        build(job(teacher.url, tmp_path, stages=("rows",)))
    assert load_rows(tmp_path / "rows.jsonl")[0].query == "May I take ibuprofen with lisinopril?"


def test_everything_asked_for_is_kept_or_rejected_with_a_reason(tmp_path: Path) -> None:
    with serving(answer=fickle) as teacher:
        report = build(job(teacher.url, tmp_path, personas=40))
    rejected = records(tmp_path / "rejected.jsonl")
    texts = [b for b in teacher.bodies if "sort replies" not in b["messages"][0]["content"]]
    rows = load_rows(tmp_path / "rows.jsonl")
    used = report.personas.made + report.queries.made + sum(len(row.responses) for row in rows)
    replies_of_rejected_rows = 3 * (report.queries.made - len(rows))
    faulted = [r for r in rejected if r["stage"] != "row"]
    failed_replies = sum(r["stage"] == "reply" and r["final"] for r in rejected)
    assert len(texts) == used + len(faulted) + replies_of_rejected_rows - failed_replies
    assert report.queries.made - len(rows) == sum(r["stage"] == "row" for r in rejected)
    gates = Counter(r["gate"] for r in rejected)
    assert {"personal-data", "level", "length"} <= gates.keys()
    assert all(r["reason"] and (r["text"] or r["gate"] == "empty") for r in rejected)
    for level, counts in report.replies.items():
        mine = [r for r in rejected if r.get("level") == level]
        assert sum(counts.failed.values()) == sum(r["final"] for r in mine)
        assert sum(counts.retried.values()) == sum(not r["final"] for r in mine)
    for row in rows:
        for level, text in row.responses.items():
            assert kind_of(text) == level
            assert "@" not in text


def test_a_reply_of_the_wrong_level_is_asked_for_at_most_n_times(tmp_path: Path) -> None:
    def stubborn(body: Body) -> str:
        return text_of(body, "generic", 60) if "colleague" in body["messages"][0]["content"] else reply_to(body)

    settings = SETTINGS.model_copy(update={"retries": 3})
    with serving(answer=stubborn) as teacher, pytest.raises(DataError, match="no rows came out"):
        build(job(teacher.url, tmp_path, personas=2, settings=settings))
    expert = [b for b in teacher.bodies if "colleague" in b["messages"][0]["content"]]
    assert len(expert) == 4 * 4  # four queries, four tries each
    assert len({b["seed"] for b in expert}) == 16
    rejected = records(tmp_path / "rejected.jsonl")
    assert Counter((r["stage"], r["gate"], r["final"]) for r in rejected) == {
        ("reply", "level", False): 12,
        ("reply", "level", True): 4,
        ("row", "reply", True): 4,
    }
    assert "takes it for generic" in rejected[0]["reason"]
    assert (tmp_path / "rows.jsonl").read_text() == ""


def test_without_a_judge_levels_are_left_unchecked_and_it_says_so(tmp_path: Path) -> None:
    def all_generic(body: Body) -> str:
        return text_of(body, "generic", 60) if "Reply in" in body["messages"][0]["content"] else reply_to(body)

    with serving(answer=all_generic) as teacher:
        settings = SETTINGS.model_copy(update={"judge": None})
        build(job(teacher.url, tmp_path, personas=2, settings=settings))
    assert not any("sort replies" in b["messages"][0]["content"] for b in teacher.bodies)
    made = load_rows(tmp_path / "rows.jsonl")[0].provenance
    assert made is not None
    assert (made.judge, made.prompts.judge) == (None, None)


def test_a_second_run_asks_for_nothing_and_changes_nothing(tmp_path: Path) -> None:
    with serving(answer=fickle) as teacher:
        build(job(teacher.url, tmp_path))
        asked = len(teacher.bodies)
        before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
        report = build(job(teacher.url, tmp_path))
        assert len(teacher.bodies) == asked
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
    assert (report.spending.answers, report.spending.cached) == (0, asked)


def test_more_personas_begin_with_those_that_are_there(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=3))
        few, asked = records(tmp_path / "rows.jsonl"), len(teacher.bodies)
        build(job(teacher.url, tmp_path, personas=5))
        assert len(teacher.bodies) == asked // 3 * 5
    assert records(tmp_path / "rows.jsonl")[:6] == few


def test_faults_of_the_server_change_nothing_in_the_result(tmp_path: Path) -> None:
    faults = ("429", "500", "truncated", "reset", None, "limits", None, None, None)

    def scripted(number: int, _: Body) -> str | None:
        return faults[number % len(faults)] if number < 120 else None

    with serving(answer=fickle) as calm:
        build(job(calm.url, tmp_path / "calm"))
    with serving(scripted, answer=fickle) as rough:
        patient = Endpoint(rough.url, in_flight=8, timeout=5.0, attempts=50)
        report = build(job(rough.url, tmp_path / "rough", endpoint=patient))
    assert set(report.spending.retries) == {"HTTP 429", "HTTP 500", "unusable JSON", "connection"}
    assert rough.faults.keys() == set(faults) - {None}
    for name in ("personas", "queries", "rows", "rejected"):
        assert records(tmp_path / f"calm/{name}.jsonl") == records(tmp_path / f"rough/{name}.jsonl"), name


@pytest.mark.parametrize("limits", [Limits(tokens=12_000), Limits(money=0.012)])
def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(tmp_path: Path, limits: Limits) -> None:
    prices = Prices(1.0, 1.0)
    with serving() as teacher:
        build(job(teacher.url, tmp_path / "whole"))
        whole = len(teacher.bodies)
        with pytest.raises(BudgetError, match="larger"):
            build(job(teacher.url, tmp_path / "cut", limits=limits, prices=prices))
        report = json.loads((tmp_path / "cut/report.json").read_text())
        spent = report["spending"]["prompt_tokens"] + report["spending"]["completion_tokens"]
        assert 8_000 < spent <= 12_000
        assert "budget" in report["stopped"]
        some = records(tmp_path / "cut/rows.jsonl")
        assert 0 < len(some) == report["rows"]["made"] < 12
        build(job(teacher.url, tmp_path / "cut"))
        assert len(teacher.bodies) == 2 * whole
    rows = records(tmp_path / "whole/rows.jsonl")
    assert records(tmp_path / "cut/rows.jsonl") == rows
    assert some == rows[: len(some)]


def test_a_teacher_that_dies_leaves_what_is_finished_and_the_rest_is_asked_later(tmp_path: Path) -> None:
    with serving(lambda number, _: "500" if number > 60 else None) as teacher:
        with pytest.raises(TeacherError, match="in a row failed"):
            build(job(teacher.url, tmp_path, personas=20))
        some = records(tmp_path / "rows.jsonl")
        answered = len(teacher.bodies) - teacher.faults["500"]
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=20))
        rows = records(tmp_path / "rows.jsonl")
        assert len(teacher.bodies) == 20 + 40 + 240 - answered
    assert len(rows) == 40
    assert all(row in rows for row in some)


def test_an_early_stop_never_replaces_more_rows_by_fewer(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=4))
        before = (tmp_path / "rows.jsonl").read_bytes()
    (tmp_path / "answers.sqlite").unlink()
    with serving(lambda number, _: "401" if number > 30 else None) as teacher, pytest.raises(TeacherError):
        build(job(teacher.url, tmp_path, personas=9))
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_a_query_the_teacher_refuses_is_rejected_and_the_others_go_on(tmp_path: Path) -> None:
    refused: list[Body] = []

    def refuse(_: int, body: Body) -> str | None:
        if int(key_of(body)[:2], 16) % 20 == 0 and "Reply in" in body["messages"][0]["content"]:
            refused.append(body)
            return "400"
        return None

    with serving(refuse) as teacher:
        report = build(job(teacher.url, tmp_path, personas=12))
    rejected = [r for r in records(tmp_path / "rejected.jsonl") if r["gate"] == "teacher"]
    assert 0 < len(rejected) == len(refused)
    assert all("scripted 400" in r["reason"] and r["final"] for r in rejected)
    assert report.rows.made == 24 - len({r["id"] for r in rejected})


def test_an_early_stop_writes_what_there_is_even_without_a_row(tmp_path: Path) -> None:
    def refuse(_: int, body: Body) -> str | None:
        return "400" if "Reply in" in body["messages"][0]["content"] else None

    with serving(refuse) as teacher, pytest.raises(TeacherError, match="in a row failed"):
        build(job(teacher.url, tmp_path))
    assert len(records(tmp_path / "personas.jsonl")) == 6
    assert len(records(tmp_path / "rejected.jsonl")) > 0
    assert json.loads((tmp_path / "report.json").read_text())["stopped"]
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_build_in_which_nothing_passes_stops_early_and_says_why(tmp_path: Path) -> None:
    def clueless(body: Body) -> str:
        return "hard to say" if "sort replies" in body["messages"][0]["content"] else reply_to(body)

    with serving(answer=clueless) as teacher:
        with pytest.raises(TeacherError, match="none of the first 20 queries .* names no single level"):
            build(job(teacher.url, tmp_path, personas=200))
        asked = len(teacher.bodies)
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["replies"]["expert"]["failed"] == {"level": 20}
        # levels may now be mended in the same folder, and personas and queries are there already
        settings = SETTINGS.model_copy(update={"judge": None})
        assert build(job(teacher.url, tmp_path, personas=3, settings=settings)).made("rows") == 6
        assert not any("invent believable" in b["messages"][0]["content"] for b in teacher.bodies[asked:])
    assert asked < 1500  # of 11,000 that 400 queries with two retries of every reply take


def test_given_personas_are_taken_in_order_without_duplicates(tmp_path: Path) -> None:
    file = tmp_path / "people.txt"
    people = [f"A {age}-year-old {work} in {town} who asks a lot." for age, work, town in PEOPLE]
    file.write_text("\n".join([people[0], people[0].replace("asks", "wonders"), "", "No.", *people[1:]]) + "\n")
    choice = PersonaChoice(lambda: persona_texts(file), PersonaSource(kind="file", name="people.txt"), by_keyword=False)
    with serving() as teacher:
        build(job(teacher.url, tmp_path / "out", personas=3, choice=choice))
    rows = load_rows(tmp_path / "out/rows.jsonl")
    assert list(dict.fromkeys(row.persona for row in rows)) == people[:3]
    assert all(row.provenance and row.provenance.persona.name == "people.txt" for row in rows)
    assert not any("invent believable" in body["messages"][0]["content"] for body in teacher.bodies)
    gates = [r["gate"] for r in records(tmp_path / "out/rejected.jsonl") if r["stage"] == "persona"]
    assert gates == ["near-duplicate", "length"]


def test_a_query_much_like_an_earlier_one_is_rejected_and_names_it(tmp_path: Path) -> None:
    asked = (
        "My left knee has hurt since Tuesday, when I fell from the ladder in the garden. Should I rest it for longer?"
    )

    def forgetful(body: Body) -> str:
        return asked if "messages that people type" in body["messages"][0]["content"] else reply_to(body)

    with serving(answer=forgetful) as teacher:
        report = build(job(teacher.url, tmp_path, personas=2))
    (query,) = records(tmp_path / "queries.jsonl")
    rejected = [r for r in records(tmp_path / "rejected.jsonl") if r["stage"] == "query"]
    assert query["text"] == asked and report.rows.made == 1
    assert [r["gate"] for r in rejected] == ["near-duplicate"] * 3
    assert all(r["reason"] == f"much like query {query['id']}" and r["final"] for r in rejected)
