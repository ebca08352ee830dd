"""What may change in the folder of a build, what is refused, and what a person has edited there."""

from pathlib import Path
from typing import Any

import pytest

from alignvec.data.load import load_rows
from alignvec.data.schema import PersonaSource
from alignvec.data.synthesis.build import build
from alignvec.data.synthesis.job import PersonaChoice
from alignvec.data.teacher import pace
from alignvec.errors import DataError, TeacherError
from tests.data.synthesis.building import PEOPLE, SETTINGS, job
from tests.scripted_teacher import Body, reply_to, serving


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)


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


def test_ids_used_twice_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    with serving() as teacher:
        build(job(teacher.url, tmp_path, personas=1, stages=("personas", "queries")))
        asked = len(teacher.bodies)
        path = tmp_path / "queries.jsonl"
        path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
        with pytest.raises(DataError, match=r"queries.jsonl:3: id 'medical-00000-0' is used twice"):
            build(job(teacher.url, tmp_path, stages=("rows",)))
        assert not (tmp_path / "rows.jsonl").exists()
        assert len(teacher.bodies) <= asked + 12


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
                with pytest.raises(DataError, match="another process works") as caught:
                    build(job(teacher.url, tmp_path, personas=1))
                seen.append(str(caught.value))

        build(job(teacher.url, tmp_path, personas=1), watch)
    assert seen
