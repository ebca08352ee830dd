"""The teacher's client against a server that misbehaves."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.teacher import client, pace
from alignvec.data.teacher.answering import NoAnswerError
from alignvec.data.teacher.budget import Budget, Limits, Prices
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.client import Teacher
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.data.teacher.request import Answer, Request
from alignvec.errors import BudgetError, ConfigError, TeacherError
from tests import scripted_teacher
from tests.scripted_teacher import Fault, ScriptedTeacher


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)


def request(number: int = 0, max_tokens: int = 50) -> Request:
    return Request("m", (("system", "s"), ("user", f"question {number}")), 0.7, 1.0, max_tokens, number)


def faults(**of: Callable[[int], bool]) -> Fault:
    """Plays a fault when its condition on the request's number holds."""
    names = {name.removeprefix("http").replace("_", "-"): condition for name, condition in of.items()}
    return lambda number, _: next((name for name, holds in names.items() if holds(number)), None)


class Outcome:
    """What a run of requests came to."""

    answers: list[Answer | BaseException]
    teacher: Teacher
    server: ScriptedTeacher


def ask(folder: Path, fault: Fault, *requests: Request, limits: Limits | None = None, **of: Any) -> Outcome:
    """Ask all requests at once; exceptions are returned, not raised."""

    async def run() -> Outcome:
        outcome = Outcome()
        server = ScriptedTeacher(fault, **of.pop("server", {}))
        async with server as outcome.server:
            with AnswerCache(folder / "a.sqlite") as cache:
                budget = Budget(Prices(), limits or Limits(), cache.tokens())
                endpoint = Endpoint(server.url, **({"timeout": 5.0, "in_flight": 8} | of))
                async with Teacher(endpoint, cache, budget) as outcome.teacher:
                    asked = (outcome.teacher.ask(each) for each in requests)
                    outcome.answers = await asyncio.gather(*asked, return_exceptions=True)  # type: ignore[assignment]
        return outcome

    return asyncio.run(run())


def test_the_endpoint_gets_the_whole_request_and_the_answer_is_kept(tmp_path: Path) -> None:
    done = ask(tmp_path, lambda *_: None, request(7))
    assert done.server.bodies == [request(7).body]
    (answer,) = done.answers
    assert isinstance(answer, Answer)
    assert answer.finish_reason == "stop"
    assert (answer.prompt_tokens, answer.completion_tokens) == (2, len(answer.text.split()))
    assert done.teacher.budget.prompt_tokens == 2
    again = ask(tmp_path, lambda *_: None, request(7))
    assert again.answers == [answer]
    assert again.server.bodies == []
    assert (again.teacher.requests, again.teacher.cached) == (0, 1)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("429", "HTTP 429"),
        ("500", "HTTP 500"),
        ("truncated", "unusable JSON"),
        ("reset", "connection"),
        ("endless", "endless answer"),
        ("slow", "timeout"),
    ],
)
def test_a_fault_that_passes_is_outwaited(tmp_path: Path, fault: str, cause: str) -> None:
    done = ask(tmp_path, lambda number, _: fault if number <= 2 else None, request(), timeout=2.0)
    assert isinstance(done.answers[0], Answer), done.answers
    assert dict(done.teacher.retries) == {cause: 2}
    assert len(done.server.bodies) == 3
    assert done.teacher.requests == 1


def test_an_endless_answer_is_cut_off_at_a_bound_not_at_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LARGEST_ANSWER", 1 << 18)
    done = ask(tmp_path, lambda *_: "endless", request(), timeout=60.0, attempts=1)
    assert isinstance(done.answers[0], NoAnswerError)
    assert "endless answer" in str(done.answers[0])


def test_a_request_that_always_fails_is_told_with_its_last_cause(tmp_path: Path) -> None:
    done = ask(tmp_path, lambda *_: "500", request(), attempts=3)
    assert isinstance(done.answers[0], NoAnswerError)
    assert str(done.answers[0]) == "no answer after 3 attempts (last: HTTP 500: scripted 500)"
    assert len(done.server.bodies) == 3


def test_a_refused_request_is_not_asked_again_and_stops_no_other(tmp_path: Path) -> None:
    def refuse(_: int, body: dict[str, Any]) -> str | None:
        return "400" if body["seed"] == 1 else None

    done = ask(tmp_path, refuse, request(0), request(1), request(2))
    assert [type(each) for each in done.answers] == [Answer, NoAnswerError, Answer]
    assert "scripted 400" in str(done.answers[1])
    assert len(done.server.bodies) == 3


@pytest.mark.parametrize(("status", "said"), [("401", "OPENAI_API_KEY"), ("404", "--teacher-model")])
def test_a_wrong_key_or_model_stops_at_once(tmp_path: Path, status: str, said: str) -> None:
    done = ask(tmp_path, lambda *_: status, request())
    assert isinstance(done.answers[0], TeacherError)
    assert said in str(done.answers[0])
    assert len(done.server.bodies) == 1


def test_many_failures_in_a_row_are_the_teachers_not_the_requests(tmp_path: Path) -> None:
    done = ask(tmp_path, lambda *_: "400", *(request(n) for n in range(12)), in_flight=1)
    kinds = [type(each) for each in done.answers]
    assert kinds == [NoAnswerError] * 9 + [TeacherError] * 3
    assert "in a row failed" in str(done.answers[-1])


def test_no_server_is_told_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        with AnswerCache(tmp_path / "a.sqlite") as cache:
            async with Teacher(Endpoint("http://127.0.0.1:9"), cache, Budget(Prices(), Limits())) as teacher:
                with pytest.raises(TeacherError, match=r"no teacher at http://127\.0\.0\.1:9/v1"):
                    await teacher.ask(request())

    asyncio.run(run())


def test_at_most_so_many_requests_are_in_flight(tmp_path: Path) -> None:
    done = ask(tmp_path, lambda *_: None, *(request(n) for n in range(30)), in_flight=3, server={"latency": 0.01})
    assert all(isinstance(each, Answer) for each in done.answers)
    assert done.server.most_at_once == 3


def test_a_used_up_rate_limit_holds_the_next_request_back(tmp_path: Path) -> None:
    waits: list[float] = []
    heed = pace.Pace.heed

    def watched(self: pace.Pace, headers: Any) -> float:
        waits.append(heed(self, headers))
        return waits[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pace.Pace, "heed", watched)
        done = ask(tmp_path, faults(limits=lambda n: n == 1), request(0), request(1), in_flight=1)
    assert all(isinstance(each, Answer) for each in done.answers)
    assert waits == [pytest.approx(0.2), 0.0]


def test_a_budget_stops_before_it_is_exceeded_and_keeps_what_was_answered(tmp_path: Path) -> None:
    limits = Limits(tokens=400)
    done = ask(tmp_path, lambda *_: None, *(request(n) for n in range(20)), limits=limits, in_flight=4)
    answers = [each for each in done.answers if isinstance(each, Answer)]
    assert 0 < len(answers) < 20
    assert {type(each) for each in done.answers} == {Answer, BudgetError}
    spent = done.teacher.budget.prompt_tokens + done.teacher.budget.completion_tokens
    assert spent == sum(each.prompt_tokens + each.completion_tokens for each in answers) <= 400
    more = ask(tmp_path, lambda *_: None, *(request(n) for n in range(20)))
    assert more.teacher.cached == len(answers)
    assert len(more.server.bodies) == 20 - len(answers)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://host/api/v1/", "https://host/api/v1"),
    ],
)
def test_a_bare_host_gets_the_usual_path(url: str, base: str) -> None:
    assert Endpoint(url).base_url == base


@pytest.mark.parametrize("url", ["host:8000", "", "ftp://host", "http://", "/v1", "http://[::1", "http://a:99999"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not an http"):
        _ = Endpoint(url).base_url


@pytest.mark.parametrize(("value", "sent"), [("sk-1", "sk-1"), (" sk-1\n", "sk-1"), ("", "none"), (None, "none")])
def test_the_key_is_that_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, sent: str
) -> None:
    if value is None:
        monkeypatch.delenv("MY_KEY", raising=False)
    else:
        monkeypatch.setenv("MY_KEY", value)
    done = ask(tmp_path, lambda *_: None, request(), key_variable="MY_KEY")
    assert f"authorization: bearer {sent}\r\n" in done.server.heads[0].lower()


def test_a_key_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scripted_teacher, "ERROR", "bad key Bearer sk-secret")
        done = ask(tmp_path, lambda *_: "401", request(), key_variable="MY_KEY")
    assert "bad key Bearer [key]" in str(done.answers[0])
    monkeypatch.setenv("MY_KEY", "sk-\u00e9")
    with pytest.raises(ConfigError, match=r"\$MY_KEY") as caught:
        _ = Endpoint("http://host", key_variable="MY_KEY").key
    assert "\u00e9" not in str(caught.value)
    assert Endpoint("http://me:secret@host:80/v1").shown == "http://host:80/v1"


def test_being_turned_away_is_not_a_failed_attempt(tmp_path: Path) -> None:
    taken: list[float] = []

    def limited(_: int, __: dict[str, Any]) -> str | None:
        now = time.monotonic()
        if taken and now - taken[-1] < 0.05:
            return "429"
        taken.append(now)
        return None

    done = ask(tmp_path, limited, *(request(n) for n in range(12)), attempts=1, in_flight=8)
    assert all(isinstance(each, Answer) for each in done.answers), done.answers
    assert set(done.teacher.retries) == {"HTTP 429"}
    assert len(done.server.bodies) < 12 * 4, "fewer at once after being turned away"


def test_patience_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.3)
    done = ask(tmp_path, lambda *_: "429", request())
    assert isinstance(done.answers[0], TeacherError)
    assert "turned a request away" in str(done.answers[0])


def test_two_equal_requests_at_once_are_asked_once(tmp_path: Path) -> None:
    done = ask(tmp_path, lambda *_: None, request(1), request(1), request(2), request(1), server={"latency": 0.02})
    assert len(done.server.bodies) == 2
    assert done.answers[0] == done.answers[1] == done.answers[3] != done.answers[2]
    assert (done.teacher.requests, done.teacher.cached) == (2, 2)


def test_the_second_of_two_equal_requests_tries_for_itself_when_the_first_fails(tmp_path: Path) -> None:
    done = ask(tmp_path, lambda number, _: "400" if number == 1 else None, request(1), request(1))
    assert [type(each) for each in done.answers] == [NoAnswerError, Answer]


def plain(**changes: Any) -> bytes:
    """The least that a completion can be, with changes."""
    whole = {"choices": [{"message": {"content": "Rest."}}]} | changes
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("content", "text", "finish_reason"),
    [
        (plain(), "Rest.", "unknown"),
        (plain(service_tier="on_demand", object=None, x_groq={}), "Rest.", "unknown"),
        (plain(choices=[{"message": {"content": " Rest. "}, "finish_reason": "eos"}]), "Rest.", "eos"),
        (plain(choices=[{"message": {"content": None}, "finish_reason": None}]), "", "unknown"),
        (
            plain(choices=[{"message": {"content": [{"text": "Re"}, {"text": "st."}]}}]),
            "Rest.",
            "unknown",
        ),
        (plain(usage={"prompt_tokens": None, "completion_tokens": 7}), "Rest.", "unknown"),
    ],
)
def test_answers_are_read_as_servers_write_them(tmp_path: Path, content: bytes, text: str, finish_reason: str) -> None:
    done = ask(tmp_path, lambda *_: None, request(), server={"content": lambda *_: content})
    (answer,) = done.answers
    assert isinstance(answer, Answer), answer
    assert (answer.text, answer.finish_reason) == (text, finish_reason)
    assert answer.prompt_tokens == request().prompt_tokens
    assert answer.completion_tokens in (7, len(text) // 4 + 1)


@pytest.mark.parametrize(
    ("content", "cause", "said"),
    [
        (b'{"error": {"message": "Insufficient credits"}}', "error in the answer", "Insufficient credits"),
        (b"<html>Bad gateway</html>", "unusable JSON", "Bad gateway"),
        (b'{"choices": []}', "unusable JSON", "no choices"),
        (b'{"choices": [{"message": {"content": 7}}]}', "unusable JSON", "choices"),
    ],
)
def test_what_cannot_be_used_says_what_it_was(tmp_path: Path, content: bytes, cause: str, said: str) -> None:
    done = ask(tmp_path, lambda *_: None, request(), attempts=2, server={"content": lambda *_: content})
    assert isinstance(done.answers[0], NoAnswerError)
    assert said in str(done.answers[0])
    assert dict(done.teacher.retries) == {cause: 2}
