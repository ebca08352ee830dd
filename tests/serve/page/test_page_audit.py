"""What is asked from the page is in the audit log and the metrics, as what is asked through the API."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.schema import PreferenceRow
from alignvec.serve.page.events import Events
from alignvec.serve.policy.audit import AuditLog
from alignvec.serve.routing import Routing
from alignvec.serve.service import Service
from tests.serve.routers import UNSURE, router_of
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import make_service, policy_of

ROW = PreferenceRow.model_validate(
    {
        "id": "m1",
        "domain": "medical",
        "split": "test",
        "topic": "sleep",
        "persona": "a cook",
        "query": "I cannot sleep.",
        "responses": {"avoidance": "Ask a doctor.", "expert": "Take a walk."},
    }
)


class Scoring(ScriptedEngine):
    """With a meter."""

    async def preference(self, row: PreferenceRow, knobs: Any, vectors: Any) -> dict[str, float]:
        if self.error:
            raise self.error
        return dict.fromkeys(row.responses, -1.0)


@pytest.fixture
def service(tiny: Any, make_vector: Any, tmp_path: Path) -> Service:
    policy = policy_of(staff={"requests_per_minute": 3}, public={"vectors": {"medical": {"max": 0}}})
    return make_service(Scoring(tiny, [make_vector("medical")]), policy, AuditLog(tmp_path / "audit.jsonl"))


@pytest.fixture
def events(service: Service) -> Events:
    return Events(service, {"medical": [ROW]}, needs_key=True)


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


def entries(tmp_path: Path) -> list[tuple[Any, ...]]:
    """Endpoint, key, status, error and applied knobs of each line."""
    return [
        (e["endpoint"], e["key"], e["status"], e["error"], (e["alignment"] or {}).get("applied"))
        for e in lines(tmp_path)
    ]


async def say(events: Events, key: str, value: float, question: str = "hello") -> None:
    async for _ in events.chat(question, [], key, value):
        pass


def test_replies_and_refusals_are_written_down_once_each(service: Service, events: Events, tmp_path: Path) -> None:
    async def visit() -> None:
        await say(events, "staff", 0.5)
        await say(events, "nobody", 0.5)
        await say(events, "public", 0.5)
        await say(events, "public", 0.0, " ")

    asyncio.run(visit())
    assert entries(tmp_path) == [
        ("page", "staff", 200, None, {"medical": 0.5}),
        ("page", None, 401, "invalid_api_key", None),
        ("page", "public", 403, "forbidden", {}),
        ("page", "public", 400, "invalid_request", None),
    ]
    assert service.active == 0
    assert len({line["request"] for line in lines(tmp_path)} - {""}) == 4
    counted = service.metrics.replies.collect()[0].samples
    assert {(s.labels["endpoint"], s.labels["status"]): s.value for s in counted if s.name.endswith("_total")} == {
        ("page", status): 1 for status in ("200", "401", "403", "400")
    }


def test_the_meter_is_written_down(service: Service, events: Events, tmp_path: Path) -> None:
    async def visit() -> None:
        assert "likeliest" in (await events.measure("m1", "staff", 1.0))[0]
        service.engine.error = RuntimeError("a bug")  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError):
            await events.measure("m1", "staff", 1.0)
        assert "above" in (await events.measure("m1", "public", 1.0))[1]
        service.engine.error = None  # type: ignore[attr-defined]
        assert "likeliest" in (await events.measure("m1", "staff", 0.0))[0]
        assert "3 requests per minute" in (await events.measure("m1", "staff", 0.0))[1]
        service.draining = True
        assert "shutting down" in (await events.measure("m1", "staff", 1.0))[1]

    asyncio.run(visit())
    assert entries(tmp_path) == [
        ("meter", "staff", 200, None, {"medical": 1.0}),
        ("meter", "staff", 500, "internal_error", {"medical": 1.0}),
        ("meter", "public", 403, "forbidden", {}),
        ("meter", "staff", 200, None, {}),
        ("meter", "staff", 429, "rate_limit_exceeded", {}),
        ("meter", "staff", 503, "unavailable", {"medical": 1.0}),
    ]


def test_the_page_is_routed_and_says_so(service: Service, tiny: Any, tmp_path: Path) -> None:
    routing = Routing(router_of(tiny, medical=UNSURE), tiny)
    routed = make_service(service.engine, service.policy, service.audit, routing=routing)
    events = Events(routed, {}, needs_key=True)

    async def visit() -> list[list[Any]]:
        chats = [shown async for shown in events.chat("hello", [], "staff", 1.0)]
        return [chats[-1], [shown async for shown in events.compare("hello", "staff", 1.0, -1.0)][-1]]

    chat, compared = asyncio.run(visit())
    assert "routed (medical 0.50): medical=0.5" in chat[-1]
    assert "A: routed (medical 0.50): medical=0.5; B: routed (medical 0.50): medical=-0.5" in compared[-1]
    applied = [line["alignment"]["applied"]["medical"] for line in lines(tmp_path)]
    assert sorted(applied) == [-0.5, 0.5, 0.5]
    routing.close()
