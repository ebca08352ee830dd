"""A whole build on a scripted teacher: what comes out, what is rejected, how it stops and goes on."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.load import load_rows
from alignvec.data.publish.split import split_of
from alignvec.data.schema import PersonaSource
from alignvec.data.synthesis.build import build
from alignvec.data.synthesis.job import PersonaChoice
from alignvec.data.synthesis.personas import persona_texts
from alignvec.data.synthesis.replies import verdict
from alignvec.data.synthesis.settings import expected
from alignvec.data.teacher import pace
from alignvec.data.teacher.budget import Limits, Prices
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.data.teacher.request import Answer
from alignvec.errors import BudgetError, DataError, TeacherError
from tests.data.synthesis.building import SETTINGS, fickle, job, key_of, records
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "another seed"),
        ({"teacher": "other"}, "another teacher"),
        ({"queries_per_persona": 3}, "another queries_per_persona"),
        ({"judge": None}, "another judge"),
        ({"retries": 0}, "another retries"),
    ],
)
def test_a_folder_of_another_build_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=1))
        before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
        with pytest.raises(DataError, match=said):
            build(job(teacher.url, tmp_path, personas=1, settings=SETTINGS.model_copy(update=change)))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")} == before


def test_a_folder_without_answers_takes_other_settings(tmp_path: Path) -> None:
    with serving(lambda number, _: "404" if number == 1 else None) as teacher:
        with pytest.raises(TeacherError, match="--teacher-model"):
            build(job(teacher.url, tmp_path, personas=1))
        right = SETTINGS.model_copy(update={"teacher": "right"})
        build(job(teacher.url, tmp_path, personas=1, settings=right))
    assert {row.provenance.teacher for row in load_rows(tmp_path / "rows.jsonl") if row.provenance} == {"right"}


def test_given_personas_of_another_file_are_refused(tmp_path: Path) -> None:
    def people(name: str) -> PersonaChoice:
        texts = [f"A {age}-year-old {work} in {town} who asks a lot." for age, work, town in PEOPLE]
        source = PersonaSource(kind="file", name=name)
        return PersonaChoice(lambda: iter(texts), source, by_keyword=False)

    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=2, choice=people("a.txt")))
        with pytest.raises(DataError, match="another source of personas"):
            build(job(teacher.url, tmp_path, personas=2, choice=people("b.txt")))
        with pytest.raises(DataError, match="another source of personas"):
            build(job(teacher.url, tmp_path, personas=2))


def test_fewer_personas_than_before_are_noted_and_come_back_for_nothing(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=3))
        before, asked = (tmp_path / "rows.jsonl").read_bytes(), len(teacher.bodies)
        report = build(job(teacher.url, tmp_path, personas=1))
        assert any("rows.jsonl had 6 records and has 2 now" in note for note in report.notes)
        assert not any("records" in note for note in build(job(teacher.url, tmp_path, personas=3)).notes)
        assert len(teacher.bodies) == asked
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_a_persona_taken_out_by_hand_costs_no_other_its_queries(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=4))
        asked = len(teacher.bodies)
        lines = (tmp_path / "personas.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "personas.jsonl").write_text("".join(lines[:1] + lines[2:]))
        build(job(teacher.url, tmp_path, stages=("queries",)))
        report = build(job(teacher.url, tmp_path, stages=("rows",)))
        assert len(teacher.bodies) == asked
    assert report.rows is not None and report.rows.made == 6


def test_ids_used_twice_are_told_before_anything_is_asked(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=1, stages=("personas", "queries")))
        asked = len(teacher.bodies)
        path = tmp_path / "queries.jsonl"
        path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
        with pytest.raises(DataError, match=r"queries.jsonl:3: id 'medical-00000-0' is used twice"):
            build(job(teacher.url, tmp_path, stages=("rows",)))
        assert not (tmp_path / "rows.jsonl").exists()
        assert len(teacher.bodies) <= asked + 12


def test_an_early_stop_writes_what_there_is_even_without_a_row(tmp_path: Path) -> None:
    def refuse(_: int, body: Body) -> str | None:
        return "400" if "Reply in" in body["messages"][0]["content"] else None

    with serving(refuse) as teacher, pytest.raises(TeacherError, match="in a row failed"):
        build(job(teacher.url, tmp_path))
    assert len(records(tmp_path / "personas.jsonl")) == 6
    assert len(records(tmp_path / "rejected.jsonl")) > 0
    assert json.loads((tmp_path / "report.json").read_text())["stopped"]
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_query_edited_by_hand_is_kept_when_a_whole_build_writes_its_own(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=2))
        path = tmp_path / "queries.jsonl"
        edited = path.read_text().replace(load_rows(tmp_path / "rows.jsonl")[1].query, "May I take both?")
        path.write_text(edited)
        report = build(job(teacher.url, tmp_path, personas=2))
        assert report.notes[-1].endswith("kept as queries.1.jsonl")
        assert (tmp_path / "queries.1.jsonl").read_text() == edited
        assert "May I take both?" not in path.read_text()
        assert not any("kept as" in note for note in build(job(teacher.url, tmp_path, personas=4)).notes)
    assert {one.name for one in tmp_path.glob("*.1.jsonl")} == {"queries.1.jsonl"}


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


LEVELS = ("brief", "non-expert", "expert", "very_detailed", "detailed")


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("expert", "expert"),
        ("Expert.", "expert"),
        ("**expert**", "expert"),
        ("_expert_", "expert"),
        ("non expert", "non-expert"),
        ("Non-Expert", "non-expert"),
        ("Very detailed", "very_detailed"),
        ("The reply is detailed.", "detailed"),
        ("Kind: brief", "brief"),
        ("brief\n\nIt has one sentence and is not expert or detailed.", "brief"),
        ("<think>expert? no, brief</think>\ndetailed", "detailed"),
        ("expert or brief", None),
        ("This is certainly not expert", None),
        ("It is hard to say, but on the whole I would lean towards calling it expert", None),
        ("expertise", None),
        ("", None),
        ("?", None),
    ],
)
def test_a_verdict_is_one_level_named_plainly(said: str, level: str | None) -> None:
    assert verdict(Answer(said, "stop", 1, 1, "t"), LEVELS) == level


def test_a_verdict_that_was_cut_off_counts_only_if_it_came_first() -> None:
    assert verdict(Answer("it is not brief; between the expert", "length", 1, 1, "t"), LEVELS) is None
    assert verdict(Answer("I think expert", "length", 1, 1, "t"), LEVELS) is None
    assert verdict(Answer("expert\nbecause it", "length", 1, 1, "t"), LEVELS) == "expert"


def test_a_step_may_have_another_teacher(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=1, stages=("personas",)))
        other = SETTINGS.model_copy(update={"teacher": "larger"})
        build(job(teacher.url, tmp_path, settings=other, stages=("queries",)))
    assert {body["model"] for body in teacher.bodies} == {"scripted", "larger"}


def test_a_step_without_the_one_before_says_which(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"personas.jsonl; `alignvec data personas"):
        build(job("http://127.0.0.1:9", tmp_path, stages=("queries",)))
    with pytest.raises(DataError, match=r"queries.jsonl; `alignvec data queries"):
        build(job("http://127.0.0.1:9", tmp_path, stages=("rows",)))
    assert not (tmp_path / "rows.jsonl").exists()


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    def nested(body: Body) -> str:
        return reply_to(body)

    with serving(answer=nested) as teacher:
        seen: list[str] = []

        def watch(_: object) -> None:
            if not seen:
                with pytest.raises(DataError, match="another process builds") as caught:
                    build(job(teacher.url, tmp_path, personas=1))
                seen.append(str(caught.value))

        build(job(teacher.url, tmp_path, personas=1), watch)
    assert seen


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


PEOPLE = [(31, "beekeeper", "Lyon"), (58, "bus driver", "Lagos"), (44, "violinist", "Osaka"), (70, "printer", "Quito")]
