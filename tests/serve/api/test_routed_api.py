"""A router and solved goals as a client sees them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from alignvec.serve.policy.audit import AuditLog
from alignvec.serve.routing import Routing
from alignvec.steer.solved import SolvedSetting
from tests.serve.routers import SURE, UNSURE, router_of
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import make_service, policy_of, served

HI: list[Any] = [{"role": "user", "content": "hi"}]
GOALS = {
    "medical=expert,legal=avoidance": SolvedSetting(knobs={"medical": 1.0, "legal": -0.5}, reached=True),
    "medical=generic,legal=avoidance": SolvedSetting(knobs={"legal": -1.0}, reached=False),
}
GOAL = "legal=avoidance,medical=expert"
POLICY = {"boss": {"admin": True}, "held": {"vectors": {"medical": {}}, "forced": {"legal": -1}}}


@pytest.fixture
def engine(tiny: Any, make_vector: Any) -> ScriptedEngine:
    return ScriptedEngine(tiny, [make_vector("medical"), make_vector("legal", seed=1)])


@pytest.fixture
def routing(tiny: Any) -> Iterator[Routing]:
    found = Routing(router_of(tiny, medical=UNSURE, legal=-SURE), tiny)
    yield found
    found.close()


@pytest.fixture
def clients(engine: ScriptedEngine, routing: Routing, tmp_path: Path) -> Iterator[dict[str, openai.OpenAI]]:
    """A client of a server with goals, with and without a router."""
    service = make_service(engine, policy_of(**POLICY), AuditLog(tmp_path / "plain.jsonl"), goals=GOALS)
    turning = make_service(
        engine, policy_of(**POLICY), AuditLog(tmp_path / "routed.jsonl"), goals=GOALS, routing=routing
    )
    with served(service) as plain, served(turning) as routed:
        yield {
            name: openai.OpenAI(base_url=f"{url}/v1", api_key="boss", max_retries=0)
            for name, url in (("plain", plain), ("routed", routed))
        }


def last(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text().splitlines()[-1])
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_the_echo_tells_probabilities_and_what_was_applied(
    clients: dict[str, openai.OpenAI], engine: ScriptedEngine, tmp_path: Path, stream: bool
) -> None:
    raw = clients["routed"].chat.completions.with_raw_response.create(
        model="demo", messages=HI, extra_body={"alignment": {"medical": "expert", "legal": -4}}, stream=stream, n=2
    )
    found: Any = raw.parse()
    echoes = [one.model_extra["alignment"] for one in found if "alignment" in one.model_extra] if stream else []
    for echo in echoes or [found.model_extra["alignment"]]:
        assert echo["requested"] == {"medical": "expert", "legal": -4}
        assert echo["routed"] == {"medical": 0.5, "legal": pytest.approx(0)}
        assert echo["applied"] == {"medical": 0.5, "legal": pytest.approx(0)}
        assert echo["clamped"] == echo["forced"] == {}
    assert raw.headers["x-alignment-applied"].startswith("medical=0.5,legal=")
    assert [job.knobs for job in engine.jobs] == [echo["applied"]] * 2
    assert last(tmp_path / "routed.jsonl")["alignment"] == echo
    held = (
        clients["routed"]
        .with_options(api_key="held")
        .chat.completions.create(model="demo", messages=HI, extra_body={"alignment": {"medical": 1}})
    )
    assert held.model_extra is not None and held.model_extra["alignment"]["applied"] == {"medical": 0.5, "legal": -1.0}


def test_what_the_user_wrote_is_read(
    clients: dict[str, openai.OpenAI], engine: ScriptedEngine, routing: Routing, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, ...]] = []
    turned = routing.turned

    def noted(setting: Any, turns: tuple[str, ...], *rest: Any) -> Any:
        read.append(turns)
        return turned(setting, turns, *rest)

    monkeypatch.setattr(routing, "turned", noted)
    turns: list[Any] = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    client = clients["routed"]
    client.chat.completions.create(model="demo", messages=turns)
    ids = engine.base.tokenizer("Hi")["input_ids"]
    for prompt in ("one", ["two"], ids, [ids]):
        client.completions.create(model="demo", prompt=prompt)  # type: ignore[call-overload]
    assert read == [("user", "user"), ("one",), ("two",), ("Hi",), ("Hi",)]
    with pytest.raises(openai.BadRequestError, match="one prompt a request"):
        client.completions.create(model="demo", prompt=["one", "two"])
    assert len(clients["plain"].completions.create(model="demo", prompt=["one", "two"]).choices) == 2
    assert len(read) == 5


def test_a_router_that_takes_too_long_is_given_up(engine: ScriptedEngine, tiny: Any) -> None:
    class Stuck(Routing):
        async def turned(self, *_: Any) -> Any:
            await asyncio.sleep(60)

    stuck = Stuck(router_of(tiny, medical=UNSURE), tiny)
    with served(make_service(engine, routing=stuck, timeout=0.2)) as url:
        answer = httpx2.post(f"{url}/v1/chat/completions", json={"model": "demo", "messages": HI}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert engine.jobs == []


@pytest.mark.parametrize(
    "place",
    [
        {"extra_body": {"alignment": {"goal": GOAL}}},
        {"extra_headers": {"X-Alignment": f"@{GOAL}"}},
        {"model": f"demo:@{GOAL}"},
    ],
)
def test_a_goal_is_its_knobs(clients: dict[str, openai.OpenAI], engine: ScriptedEngine, place: dict[str, Any]) -> None:
    got = clients["plain"].chat.completions.create(**{"model": "demo", "messages": HI, **place})
    assert got.model_extra is not None
    echo = got.model_extra["alignment"]
    assert echo["requested"] == {"goal": GOAL} and echo["routed"] == {}
    assert echo["applied"] == engine.jobs[0].knobs == {"medical": 1.0, "legal": -0.5}
    routed = clients["routed"].chat.completions.create(**{"model": "demo", "messages": HI, **place})
    assert routed.model_extra is not None
    assert routed.model_extra["alignment"]["applied"] == {"medical": 0.5, "legal": pytest.approx(0)}


def test_goals_stand_in_the_order_of_knobs_and_within_the_keys_limits(clients: dict[str, openai.OpenAI]) -> None:
    def applied(key: str = "boss", **place: Any) -> dict[str, float]:
        client = clients["plain"].with_options(api_key=key)
        got = client.chat.completions.create(**{"model": f"demo:@{GOAL}", "messages": HI, **place})
        assert got.model_extra is not None
        found: dict[str, float] = got.model_extra["alignment"]["applied"]
        return found

    assert applied(extra_body={"alignment": {"legal": 0.25}}) == {"medical": 1.0, "legal": 0.25}
    other = {"goal": "medical=generic,legal=avoidance"}
    assert applied(extra_body={"alignment": other}) == {"medical": 0.0, "legal": -1.0}
    assert applied("held", model="demo:@medical=generic,legal=avoidance") == {"medical": 0.0, "legal": -1.0}
    with pytest.raises(openai.PermissionDeniedError, match="legal=-0.5 differs from -1"):
        applied("held")
    with pytest.raises(openai.BadRequestError, match="have: medical=expert,legal=avoidance; medical=generic"):
        applied(model="demo:@medical=expert")
    with pytest.raises(openai.BadRequestError, match="write it like medical=0.5"):
        applied(extra_headers={"X-Alignment": f"goal={GOAL}"})
    assert clients["plain"].models.retrieve(f"demo:@{GOAL}").id == f"demo:@{GOAL}"


def test_a_goal_that_is_not_allowed_is_audited_as_it_was_written(
    clients: dict[str, openai.OpenAI], tmp_path: Path
) -> None:
    for asked, written in (
        ({"extra_body": {"alignment": {"goal": GOAL}}}, {"goal": GOAL}),
        ({"extra_headers": {"X-Alignment": f"@{GOAL}"}}, {"goal": GOAL}),
        ({"extra_body": {"alignment": {"goal": GOAL, "legal": "x" * 999}}}, None),
        ({"extra_body": {"alignment": {"legal": 0.25, "medical": "expert"}}}, {"legal": 0.25, "medical": "expert"}),
    ):
        given: Any = {"model": "demo", "messages": HI, **asked}
        with pytest.raises(openai.APIStatusError) as refused:
            clients["plain"].with_options(api_key="held").chat.completions.create(**given)
        line = last(tmp_path / "plain.jsonl")
        assert (line["alignment"] or {}).get("requested") == written
        assert line["status"] == refused.value.status_code == (403 if written else 400)


def test_alignment_tells_goals_and_router(clients: dict[str, openai.OpenAI]) -> None:
    told = {name: client.get("/alignment", cast_to=httpx2.Response).json() for name, client in clients.items()}
    assert told["plain"]["router"] is None and told["routed"]["router"] == {"domains": ["medical", "legal"]}
    assert (
        told["plain"]["goals"]
        == told["routed"]["goals"]
        == [
            {"goal": goal, "knobs": solved.knobs, "reached": solved.reached, "constraints": [], "blocked_by": None}
            for goal, solved in GOALS.items()
        ]
    )
