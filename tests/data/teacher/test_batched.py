"""An engine in this process behind the teacher's interface: batches of what waits, faults that stay where they are."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.synthesis.build import build
from alignvec.data.teacher import batched
from alignvec.data.teacher.answering import NoAnswerError
from alignvec.data.teacher.batched import BatchedTeacher, InProcess
from alignvec.data.teacher.budget import Budget, Limits, Prices
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.request import Answer, Request
from alignvec.errors import BudgetError, ConfigError, DataError, KnobError, TeacherError
from tests.data.synthesis.building import fickle, job, records
from tests.scripted_teacher import serving


def request(number: int) -> Request:
    return Request("m", (("user", f"question {number}"),), 0.7, 1.0, 50, number)


class Engine:
    """Answers by a script.

    Attributes:
        batches: the seeds of the requests of every call.
        threads: names of the threads that called.
    """

    def __init__(self, say: Callable[[Request], str] = lambda asked: f"to {asked.messages[0][1]}") -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self._say = say

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        self.batches.append([one.seed for one in requests])
        self.threads.add(threading.current_thread().name)
        return [Answer(self._say(one), "stop", 3, 2, "2026-01-01T00:00:00+00:00") for one in requests]


def ask(folder: Path, engine: Engine, *requests: Request, size: int = 4, limits: Limits | None = None) -> list[Any]:
    """Ask all requests at once, later ones more urgently; exceptions are returned."""

    async def run() -> list[Any]:
        with AnswerCache(folder / "a.sqlite") as cache:
            budget = Budget(Prices(), limits or Limits(), cache.tokens())
            async with BatchedTeacher(InProcess(lambda: engine, size), cache, budget) as teacher:
                asked = (teacher.ask(one, (-i, "")) for i, one in enumerate(requests))
                return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(run())


def test_what_waits_is_batched_and_the_most_urgent_goes_first(tmp_path: Path) -> None:
    engine = Engine()
    found = ask(tmp_path, engine, *map(request, range(10)))
    assert [one.text for one in found] == [f"to question {i}" for i in range(10)]
    assert engine.batches == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
    assert engine.threads.isdisjoint({threading.main_thread().name})


def test_an_answer_is_kept_and_equal_requests_share_one(tmp_path: Path) -> None:
    engine = Engine()
    ask(tmp_path, engine, request(1), request(1), request(2))
    assert sorted(seed for batch in engine.batches for seed in batch) == [1, 2]
    again = Engine()
    assert [one.text for one in ask(tmp_path, again, request(1), request(2))] == ["to question 1", "to question 2"]
    assert again.batches == []


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_request_that_the_engine_refuses_fails_alone(tmp_path: Path, size: int) -> None:
    def say(asked: Request) -> str:
        if asked.seed in (2, 5):
            raise DataError(f"question {asked.seed} is too long")
        return "well"

    found = ask(tmp_path, Engine(say), *map(request, range(7)), size=size)
    refused = {i: str(one) for i, one in enumerate(found) if isinstance(one, NoAnswerError)}
    assert refused == {2: "question 2 is too long", 5: "question 5 is too long"}
    assert all(isinstance(one, Answer) for i, one in enumerate(found) if i not in refused)


def test_an_engine_that_breaks_ends_all_that_wait_at_once(tmp_path: Path) -> None:
    def say(_: Request) -> str:
        raise RuntimeError("out of memory")

    engine = Engine(say)
    found = ask(tmp_path, engine, *map(request, range(9)), size=2)
    assert {type(one) for one in found} == {RuntimeError}
    assert len(engine.batches) == 1


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    def start() -> Engine:
        raise ConfigError("no such engine here")

    async def run() -> None:
        with AnswerCache(tmp_path / "a.sqlite") as cache:
            async with BatchedTeacher(InProcess(start, 4), cache, Budget(Prices(), Limits())) as teacher:
                with pytest.raises(ConfigError, match="no such engine here"):
                    await teacher.ask(request(0))

    asyncio.run(run())


@pytest.mark.parametrize("fault", [DataError, KnobError])
def test_an_engine_that_fails_to_start_by_a_users_fault_is_started_once(tmp_path: Path, fault: type[Exception]) -> None:
    started = []

    def start() -> Engine:
        started.append(1)
        raise fault("no such context")

    async def run() -> list[Any]:
        with AnswerCache(tmp_path / "a.sqlite") as cache:
            async with BatchedTeacher(InProcess(start, 4), cache, Budget(Prices(), Limits())) as teacher:
                first = await asyncio.gather(*(teacher.ask(request(i)) for i in range(9)), return_exceptions=True)
                return [*first, *await asyncio.gather(teacher.ask(request(9)), return_exceptions=True)]

    assert {type(one) for one in asyncio.run(run())} == {fault}
    assert started == [1]


def test_an_engine_that_refuses_all_is_asked_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(_: Request) -> str:
        raise DataError("the context is too short")

    monkeypatch.setattr(batched, "REFUSED_IN_A_ROW", 5)
    engine = Engine(say)
    found = ask(tmp_path, engine, *map(request, range(40)), size=16)
    kinds = [type(one) for one in found]
    assert (kinds.count(NoAnswerError), kinds.count(TeacherError)) == (4, 36)
    assert "5 requests in a row were refused, the last one so: the context is too short" in str(found[0])
    assert [len(one) for one in engine.batches] == [16, 8, 4, 2, 1, 1, 2, 1, 1, 4, 2, 1]


def test_refusals_with_answers_between_them_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(asked: Request) -> str:
        if asked.seed % 3:
            raise DataError("too long")
        return "well"

    monkeypatch.setattr(batched, "REFUSED_IN_A_ROW", 3)
    found = ask(tmp_path, Engine(say), *map(request, range(30)), size=8)
    assert [isinstance(one, Answer) for one in found] == [i % 3 == 0 for i in range(30)]


def test_a_budget_holds(tmp_path: Path) -> None:
    most = request(0).most_prompt_tokens + 50
    found = ask(tmp_path, Engine(), *map(request, range(6)), limits=Limits(tokens=most + 5))
    assert [type(one) for one in found] == [Answer] * 2 + [BudgetError] * 4  # an answer takes 5


def test_a_build_by_an_engine_makes_the_rows_that_an_endpoint_makes(tmp_path: Path) -> None:
    engine = Engine(lambda asked: fickle(asked.body))
    with serving(answer=fickle) as teacher:
        made = build(job(teacher.url, tmp_path / "endpoint"))
    mine = replace(job("http://unused", tmp_path / "engine"), endpoint=InProcess(lambda: engine, 16))
    report = build(mine)
    assert report.rows == made.rows
    assert records(tmp_path / "engine/rows.jsonl") == records(tmp_path / "endpoint/rows.jsonl")
    answers = report.spending.answers
    assert sum(map(len, engine.batches)) == answers == made.spending.answers
    assert len(engine.batches) < answers / 4  # requests of all steps share batches
