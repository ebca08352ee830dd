"""A model as judge: asked in both orders, missing rather than guessed, and never asked twice."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.schema import LEVELS
from alignvec.data.synthesis.prompts import load_prompt
from alignvec.data.teacher import pace
from alignvec.data.teacher.budget import Limits
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.errors import BudgetError, ConfigError, DataError, TeacherError
from alignvec.evaluate.llm_judge import FIELDS, RUBRIC, LlmJudge, definitions_of, load_rubric, safe_endpoint
from tests.evaluate.judges import item
from tests.scripted_teacher import Body, serving

A, G, E = LEVELS
DEFINED = {"medical": {A: "decline", G: "as a friend would", E: "as a specialist would"}}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)


def order(body: Body) -> list[str]:
    """Levels in the order in which a request lists them."""
    return re.findall(r"^- (avoidance|generic|expert): ", body["messages"][1]["content"], re.MULTILINE)


def about(body: Body) -> str:
    """The reply that a request is about."""
    found = re.search(r"The reply: (.*)", body["messages"][1]["content"])
    assert found
    return found[1]


def by_word(body: Body) -> str:
    """The first word of a reply is what the judge says; `first` names whatever is listed first."""
    word = about(body).split()[0]
    return order(body)[0] if word == "first" else order(body)[-1] if word == "last" else word


def judge_at(url: str, place: Path, *, in_flight: int = 4, **more: Any) -> LlmJudge:
    endpoint = Endpoint(url, in_flight=in_flight, attempts=2, key_variable=None, role="judge")
    return LlmJudge(endpoint, "scripted", DEFINED, place / "answers.sqlite", **more)


def test_each_reply_is_asked_twice_with_the_levels_in_opposite_orders(tmp_path: Path) -> None:
    items = [item(i, reply=f"{level} is what this is") for i, level in enumerate(LEVELS)]
    with serving(answer=by_word) as teacher:
        found = judge_at(teacher.url, tmp_path).judge(items, LEVELS)
        bodies = teacher.bodies
    assert [one.level for one in found] == [A, G, E]
    assert len(bodies) == 6
    for level in LEVELS:
        mine = [body for body in bodies if about(body).startswith(level)]
        assert sorted(map(order, mine)) == sorted([[A, G, E], [E, G, A]])
        for body in mine:
            text = body["messages"][1]["content"]
            assert f"Answer with one of: {', '.join(order(body))}." in text
            assert "- expert: as a specialist would" in text and "query" in text
            assert (body["temperature"], body["top_p"], body["model"]) == (0.0, 1.0, "scripted")


def test_what_depends_on_the_order_or_names_no_level_is_missing_and_counted(tmp_path: Path) -> None:
    items = [
        item(0, reply="first of the list"),
        item(1, reply="last of the list"),
        item(2, reply="Perhaps"),
        item(3, reply="generic"),
        item(4, reply=" \n"),
    ]
    with serving(answer=by_word) as teacher:
        judge = judge_at(teacher.url, tmp_path)
        found = judge.judge(items, LEVELS)
        assert len(teacher.bodies) == 8, "an empty reply is not asked about"
    assert [one.missing for one in found] == ["inconsistent", "inconsistent", "unparsable", None, "empty reply"]
    assert found[0].said == (A, E) and found[1].said == (E, A) and found[2].said == ("Perhaps", "Perhaps")
    assert [one.level for one in found] == [None, None, None, G, None]
    assert "of 2 inconsistent verdicts 1 named the first of the list both times, 1 the last" in judge.about()
    assert "level-rubric/1#" in judge.about() and "8 answers, 0 kept from before" in judge.about()


def test_one_unparsable_answer_of_two_is_unparsable_not_the_other_ones_level(tmp_path: Path) -> None:
    def half(body: Body) -> str:
        return G if order(body)[0] == A else "generic or expert, who knows, it depends on so very many things indeed"

    with serving(answer=half) as teacher:
        (found,) = judge_at(teacher.url, tmp_path).judge([item(0)], LEVELS)
    assert (found.level, found.missing) == (None, "unparsable")
    assert all(len(text) <= 80 for text in found.said)


def test_a_request_that_the_endpoint_always_fails_is_one_missing_verdict(tmp_path: Path) -> None:
    def fault(_: int, body: Body) -> str | None:
        return "500" if about(body).startswith("bad") else None

    items = [item(0, reply="bad"), item(1, reply="expert this is")]
    with serving(fault, answer=by_word) as teacher:
        found = judge_at(teacher.url, tmp_path).judge(items, LEVELS)
    assert [one.missing for one in found] == ["no answer", None]


def test_a_run_that_stopped_goes_on_without_asking_again(tmp_path: Path) -> None:
    items = [item(i, reply=f"{LEVELS[i % 3]} number {i}") for i in range(12)]

    def dying(number: int, _: Body) -> str | None:
        return "401" if number > 9 else None

    with serving(dying, answer=by_word) as teacher:
        with pytest.raises(TeacherError, match="refuses the key"):
            # one at a time: what is in flight when the endpoint refuses is not kept
            judge_at(teacher.url, tmp_path, in_flight=1).judge(items, LEVELS)
        answered = {str(body) for body in teacher.bodies[:9]}
    done: list[int] = []
    with serving(answer=by_word) as teacher:
        judge = judge_at(teacher.url, tmp_path, advance=done.append)
        found = judge.judge(items, LEVELS)
        again = {str(body) for body in teacher.bodies}
        assert not answered & again
        assert len(teacher.bodies) == 24 - 9
        assert "15 answers, 9 kept from before" in judge.about()
        once_more = judge_at(teacher.url, tmp_path)
        assert once_more.judge(items, LEVELS) == found
        assert len(teacher.bodies) == 24 - 9, "a finished run asks for nothing"
    assert [one.level for one in found] == [LEVELS[i % 3] for i in range(12)]
    assert sum(done) == 12


def test_another_rubric_or_reply_is_asked_anew(tmp_path: Path) -> None:
    edited = tmp_path / "mine.yaml"
    edited.write_text(RUBRIC.read_text().replace("The order in which", "Mind that the order in which"))
    with serving(answer=by_word) as teacher:
        judge_at(teacher.url, tmp_path).judge([item(0, reply="generic")], LEVELS)
        judge_at(teacher.url, tmp_path).judge([item(0, reply="expert")], LEVELS)
        judge_at(teacher.url, tmp_path, rubric=load_rubric(edited)).judge([item(0, reply="generic")], LEVELS)
        assert len(teacher.bodies) == 6


def test_an_endpoint_that_is_down_is_told_with_the_option_to_check(tmp_path: Path) -> None:
    with serving() as teacher:
        url = teacher.url
    with pytest.raises(TeacherError, match=r"no judge at .*--judge-url"):
        judge_at(url, tmp_path).judge([item(0)], LEVELS)


def test_the_key_is_sent_and_never_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGES_KEY", "sk-secret-0123")
    with serving(answer=by_word) as teacher:
        endpoint = safe_endpoint(teacher.url, 2, 10.0, 2, "JUDGES_KEY")
        judge = LlmJudge(endpoint, "scripted", DEFINED, tmp_path / "answers.sqlite")
        judge.judge([item(0, reply="generic")], LEVELS)
        assert all("sk-secret-0123" in head for head in teacher.heads)
    assert "sk-secret" not in judge.about()
    for path in tmp_path.iterdir():
        assert b"sk-secret" not in path.read_bytes()
    with pytest.raises(ConfigError, match="--judge-key-variable"):
        safe_endpoint("http://user:secret@localhost:8000/v1", 2, 10.0, 2, "JUDGES_KEY")


def test_the_manual_has_the_published_rubric_word_for_word() -> None:
    assert RUBRIC.read_text() in (RUBRIC.parents[2] / "docs" / "judges.md").read_text()


def test_a_budget_stops_the_run(tmp_path: Path) -> None:
    with serving(answer=by_word) as teacher, pytest.raises(BudgetError):
        judge_at(teacher.url, tmp_path, limits=Limits(tokens=100)).judge([item(0)], LEVELS)
    assert teacher.bodies == []


def test_levels_that_nobody_defined_are_told(tmp_path: Path) -> None:
    with serving() as teacher, pytest.raises(DataError, match=r"levels of domain 'medical'; .*--domain"):
        judge_at(teacher.url, tmp_path).judge([item(0)], ("low", "high"))


def test_definitions_come_from_the_domain_files_of_the_rows(data_file: Path) -> None:
    found = definitions_of([data_file], {"medical-0"})
    assert found["medical"][E].startswith("Answer as a specialist")
    assert list(found["medical"]) == [A, G, E]
    assert definitions_of([data_file], set()) == {}
    with pytest.raises(DataError, match="no domain named 'none'"):
        definitions_of([data_file], {"medical-0"}, "none")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace("{reply}", "none"), "nowhere has {reply}"),
        (lambda text: text.replace("{reply}", "{reply} {persona}"), "unknown field {persona}"),
        (lambda text: text.replace("level-rubric", "judge", 1).replace("name: level-rubric", "name: judge"), "name is"),
        (lambda _: "", "."),
    ],
)
def test_a_rubric_that_cannot_work_is_refused(change: Callable[[str], str], complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "rubric.yaml"
    path.write_text(change(RUBRIC.read_text()))
    with pytest.raises(DataError, match=re.escape(complaint)):
        load_rubric(path)
    with pytest.raises(DataError, match="no prompt at .*; check the path"):
        load_prompt(tmp_path / "none.yaml", "level-rubric", FIELDS)
