"""A router beside the real engine: what it reads is the base's, whatever the batch is doing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignvec import models
from alignvec.serve.ask import Ask
from alignvec.serve.engine.engine import Engine, EngineSettings
from alignvec.serve.engine.request import Job
from alignvec.serve.errors import OverloadedError
from alignvec.serve.policy.rules import Rules
from alignvec.serve.routing import Routing
from alignvec.serve.service import Service
from alignvec.serve.setting import Setting
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import routed
from alignvec.steer.sampling import GREEDY
from tests.conftest import MakeVector
from tests.serve.routers import SURE, UNSURE, router_of
from tests.serve.serving import make_service

QUESTIONS = ["why?", "zzzz zzzz", "Is this a longer question about my sleep, or about my landlord?", "0"]
FREE = Rules(name="free")
SHORT = GREEDY.model_copy(update={"max_new_tokens": 16})


@pytest.fixture
def vectors(make_vector: MakeVector) -> list[Any]:
    return [make_vector("medical", scale=0.3), make_vector("legal", scale=0.3, seed=1), make_vector("style", seed=2)]


@pytest.fixture
def engine(tiny: models.BaseModel, vectors: list[Any]) -> Iterator[Engine]:
    engine = Engine(tiny, vectors, EngineSettings(max_batch=4, queue=8, context=256))
    yield engine
    engine.stop()


def ask(service: Service, question: str, setting: Setting, n: int = 1) -> Ask:
    prompt = service.chat_prompt([{"role": "user", "content": question}])
    return Ask([prompt], SHORT, setting, n=n, user=(question,))


async def reply(service: Service, asked: Ask) -> tuple[str, Setting]:
    pieces = [piece async for piece in service.pieces(asked, FREE)]
    return "".join(piece.text for piece in pieces), pieces[-1].setting


def test_routed_requests_beside_others_are_as_each_alone(
    tiny: models.BaseModel, tiny_folder: Path, vectors: list[Any], engine: Engine
) -> None:
    router = router_of(tiny, spread=2.0, medical=0.0, legal=0.0)
    routing = Routing(router, tiny)
    engine.start()
    service = make_service(engine, routing=routing)
    setting = service.setting(FREE, [{"medical": 1.0, "legal": -1.0, "style": 0.5}])
    alone = KnobbedModel(models.load(str(tiny_folder), device="cpu"), vectors)

    async def busy() -> None:
        job = Job(service.text_prompt("go on"), SHORT.model_copy(update={"max_new_tokens": 200}), {"medical": 1.0})
        async for _ in engine.stream(job):
            pass

    async def all_at_once() -> list[tuple[str, Setting]]:
        other = asyncio.create_task(busy())
        while not engine.load().running:
            await asyncio.sleep(0.01)
        found = await asyncio.gather(*(reply(service, ask(service, question, setting)) for question in QUESTIONS))
        other.cancel()
        return found

    found = asyncio.run(all_at_once())
    for question, (text, turned) in zip(QUESTIONS, found, strict=True):
        probabilities, (knobs,) = routed(router, alone, (question,), [setting.applied])
        assert turned.routed == pytest.approx(probabilities, abs=1e-5)
        assert turned.applied == pytest.approx(knobs, abs=1e-5)
        assert text.strip() == alone.generate([question], knobs, SHORT)[0]
    assert len({round(turned.applied["medical"], 3) for _, turned in found}) == len(QUESTIONS)
    routing.close()


def test_what_the_policy_holds_is_in_force_on_every_prompt(tiny: models.BaseModel, engine: Engine) -> None:
    routing = Routing(router_of(tiny, medical=-SURE, legal=-SURE), tiny)
    service = make_service(engine, routing=routing)

    def turned(asked: dict[str, float], **rules: Any) -> dict[str, float]:
        by = Rules.model_validate({"name": "public", **rules})
        found = asyncio.run(routing.turned(service.setting(by, [asked]), ("why?",), by, 1))
        assert found.routed == {"medical": pytest.approx(0), "legal": pytest.approx(0)}
        return found.applied

    def near(**knobs: float) -> Any:
        return pytest.approx(knobs, abs=1e-9)

    assert turned({"medical": 1, "legal": -1, "style": 1}) == near(medical=0, legal=0, style=1)
    assert turned({"medical": 1}, forced={"legal": -0.5}) == near(medical=0, legal=-0.5)
    assert turned({"medical": 1}, vectors={"medical": {"min": 0.25}}) == near(medical=0.25)
    assert turned({}, vectors={"medical": {"max": -0.25}}) == near(medical=-0.25)
    assert turned({}, vectors={"medical": {"min": -1, "max": 0, "default": -1}}) == near(medical=0)
    routing.close()


def test_more_prompts_than_there_is_room_for_are_refused(tiny: models.BaseModel, engine: Engine) -> None:
    routing = Routing(router_of(tiny, medical=UNSURE), tiny)
    setting = make_service(engine).setting(FREE, [{"medical": 1.0}])

    async def crowd() -> list[Any]:
        asked = [routing.turned(setting, "why?", FREE, 2) for _ in range(3)]
        first = await asyncio.gather(*asked, return_exceptions=True)
        return [*first, await routing.turned(setting, "why?", FREE, 1)]

    *read, refused, later = asyncio.run(crowd())
    assert isinstance(refused, OverloadedError) and refused.retry_after == 1
    assert [one.applied["medical"] for one in (*read, later)] == [0.5] * 3
    routing.close()


def test_a_router_goes_on_after_a_reload_with_the_domains_of_the_new_vectors(
    tiny: models.BaseModel, engine: Engine, make_vector: MakeVector
) -> None:
    routing = Routing(router_of(tiny, medical=UNSURE), tiny)
    service = make_service(engine, routing=routing)
    before = service.setting(FREE, [{"medical": 1.0, "style": 1.0}])
    asyncio.run(engine.reload([make_vector("medical", seed=9), make_vector("brief")]))
    after = service.setting(FREE, [{"medical": 1.0, "brief": 1.0}])
    for setting, applied in ((before, {"medical": 0.5, "style": 1.0}), (after, {"medical": 0.5, "brief": 1.0})):
        assert asyncio.run(routing.turned(setting, "why?", FREE, 1)).applied == pytest.approx(applied)
    routing.close()
