"""The middleware in front of an app that answers as vLLM does."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import yaml

from alignvec.engines.vllm import plugin
from alignvec.engines.vllm.plan import PLAN, Plan
from alignvec.errors import ConfigError
from alignvec.serve.policy.keys import key_hash, new_key
from alignvec.serve.vllm.middleware import AlignmentMiddleware
from tests.engines.conftest import MakePlan

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hi"}]


class FakeVllm:
    """Keeps what it is sent; says `one two` in two chunks if it is to stream."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.models = SimpleNamespace(lora_requests={}, lora_resolver_lock={})
        self.state = SimpleNamespace(openai_serving_models=self.models)
        self.status = 200
        self.breaks = self.leaves = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        if scope["path"] == "/metrics":
            await self._start(send, b"text/plain")
            lines = [b'vllm:lora_requests_info{running_lora_adapters="demo:medical=-1"} 1\n', b"vllm:running 2\n"]
            for line in lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        sent = json.loads(body) if body else {}
        self.bodies.append(sent)
        if ":" in sent.get("model", ""):
            self.models.lora_requests[sent["model"]] = object()
        headers = dict(scope["headers"])
        assert headers.get(b"content-length", b"0") == str(len(body)).encode()
        if sent.get("stream"):
            await self._start(send, b"text/event-stream")
            usage = {"prompt_tokens": 5, "completion_tokens": 2}
            parts: list[dict[str, Any]] = [
                {"choices": [{"index": 0, "delta": {"content": "one "}, "finish_reason": None}], "usage": usage},
                *([{"error": {"message": "out of memory"}}] if self.breaks else []),
                {"choices": [{"index": 0, "delta": {"content": "two"}, "finish_reason": "stop"}], "usage": usage},
                {"choices": [], "usage": usage},
            ]
            assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
            text = "".join(f"data: {json.dumps({'model': 'x'} | part)}\n\n" for part in parts) + "data: [DONE]\n\n"
            for piece in (text[:37], text[37:90], text[90:]):  # cut where no event ends
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await self._start(send, b"application/json")
        choices = [
            {"index": i, "message": {"content": "one two"}, "finish_reason": "stop"} for i in range(sent.get("n") or 1)
        ]
        reply: Any = {"model": "x", "choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
        if self.leaves:
            reply = None  # what vLLM sends when the client is gone
        if self.status != 200:
            reply = {"error": {"message": "vLLM says no"}}
        await send({"type": "http.response.body", "body": json.dumps(reply).encode()})

    async def _start(self, send: Any, kind: bytes) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-type", kind)]})


Ask = Callable[..., httpx2.Response]
Start = Callable[..., tuple[FakeVllm, Ask]]


@pytest.fixture
def start(plan_for: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """start("gate", policy=...) gives the app behind the middleware, and what asks the middleware."""

    def make(way: str, **options: Any) -> tuple[FakeVllm, Ask]:
        if isinstance(policy := options.get("policy"), dict):
            options["policy"] = tmp_path / "policy.yaml"
            options["policy"].write_text(yaml.safe_dump(policy))
        plan = plan_for(way, **options)
        _write(plan, tmp_path, monkeypatch)
        app = FakeVllm()
        middleware = AlignmentMiddleware(app)

        async def call(method: str, path: str, **sent: Any) -> httpx2.Response:
            async def whole(scope: Any, receive: Any, send: Any) -> None:
                await middleware({**scope, "app": app}, receive, send)

            transport = httpx2.ASGITransport(app=whole)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **sent)

        def ask(path: str = CHAT, body: Any = None, *, method: str = "POST", **sent: Any) -> httpx2.Response:
            work: Awaitable[httpx2.Response] = call(method, path, json=body, **sent)
            return asyncio.run(work)  # type: ignore[arg-type]

        return app, ask

    return make


def _write(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plan.json").write_text(plan.model_dump_json())
    monkeypatch.setenv(PLAN, str(folder / "plan.json"))
    monkeypatch.setattr(plugin, "COMPOSERS", {})


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": MESSAGES} | more


def test_with_a_gate_knobs_go_as_text_and_come_back_told(start: Start) -> None:
    app, ask = start("gate")
    reply = ask(body=chat(model="demo:legal=-0.3", alignment={"medical": 0.512}), headers={"X-Alignment": "legal=1"})
    sent = app.bodies[-1]
    assert sent["model"] == "demo" and "alignment" not in sent
    assert sent["vllm_xargs"] == {"alignvec": "medical=0.512,legal=1"}
    assert reply.json()["alignment"]["applied"] == {"medical": 0.512, "legal": 1.0}
    assert reply.json()["model"] == "demo:legal=-0.3"
    assert reply.headers["X-Alignment-Applied"] == "medical=0.512,legal=1"
    assert int(reply.headers["content-length"]) == len(reply.content)


def test_with_adapters_knobs_are_a_models_name_and_rounded_ones_are_told(start: Start) -> None:
    app, ask = start("adapters", step=0.1)
    reply = ask(body=chat(alignment={"legal": -0.33, "medical": 0.512}))
    assert app.bodies[-1]["model"] == "demo:medical=0.5,legal=-0.3" and "vllm_xargs" not in app.bodies[-1]
    assert reply.json()["alignment"]["applied"] == {"medical": 0.5, "legal": -0.3}
    assert reply.json()["alignment"]["requested"] == {"legal": -0.33, "medical": 0.512}


@pytest.mark.parametrize("way", ["gate", "adapters"])
def test_the_base_is_asked_for_as_the_base(start: Start, way: str) -> None:
    app, ask = start(way)
    assert ask(body=chat(alignment={"medical": 0.0})).status_code == 200
    assert app.bodies[-1] == chat()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (chat(alignment={"dental": 1}), 400, "no vector named 'dental'"),
        (chat(alignment={"medical": "inf"}), 400, "not a finite number"),
        (chat(alignment=[1]), 400, 'such as {"medical": 0.5}'),
        (chat(alignment={"medical": [1]}), 400, 'such as {"medical": 0.5}'),
        (chat(alignment={"medical": True}), 400, 'such as {"medical": 0.5}'),
        (chat(model="other"), 404, "no model named 'other'"),
        (chat(model="alignvec"), 404, "no model named 'alignvec'"),
        (chat(vllm_xargs={"alignvec": "medical=9"}), 400, "send knobs in alignment"),
        (chat(n=17), 400, "more than 16 replies"),
        (chat(alignment={"medical": 1}, use_beam_search=True), 400, "beam search"),
        ([1], 400, "no JSON object"),
    ],
    ids=["name", "infinite", "list", "nested", "boolean", "model", "stack", "xargs", "choices", "beams", "array"],
)
def test_what_is_wrong_is_told_and_never_reaches_vllm(start: Start, body: Any, status: int, says: str) -> None:
    app, ask = start("gate")
    reply = ask(body=body)
    assert (reply.status_code, app.bodies) == (status, []) and says in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/responses", "/inference/v1/generate", "/tokenize"])
def test_what_would_pass_the_policy_by_is_not_there(start: Start, path: str) -> None:
    app, ask = start("adapters")
    assert ask(path, {"model": "demo"}).status_code == 404 and app.paths == []


def test_a_setting_of_too_much_rank_is_refused(start: Start) -> None:
    app, ask = start("adapters", rank=1)
    reply = ask(body=chat(alignment={"medical": 1, "legal": 1}))
    assert reply.status_code == 400 and "needs rank 5" in reply.json()["error"]["message"] and app.bodies == []


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_tells_the_knobs_first_and_last_and_the_usage_only_if_asked(start: Start, usage: bool) -> None:
    _, ask = start("gate")
    options = {"stream_options": {"include_usage": True}} if usage else {}
    reply = ask(body=chat(stream=True, alignment={"medical": 1}, **options))
    events = [event.removeprefix("data: ") for event in reply.text.strip().split("\n\n")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert len(chunks) == (3 if usage else 2)
    assert all("alignment" in chunk for chunk in chunks)
    assert ["usage" in chunk for chunk in chunks] == ([False, False, True] if usage else [False, False])
    assert {chunk["model"] for chunk in chunks} == {"demo"}


def test_a_policy_holds_as_in_front_of_our_own_engine(start: Start, tmp_path: Path) -> None:
    public, clinician = new_key(), new_key()
    policy = {
        "keys": [
            {
                "name": "public",
                "hash": key_hash(public),
                "vectors": {"medical": {"min": -1, "max": 0.62, "default": -1}},
                "forced": {"legal": -0.33},
                "requests_per_minute": 3,
                "max_tokens": 7,
            },
            {"name": "clinician", "hash": key_hash(clinician)},
        ]
    }
    audit = tmp_path / "audit.jsonl"
    app, ask = start("adapters", policy=policy, audit=audit)
    key = {"Authorization": f"Bearer {public}"}
    assert ask(body=chat()).status_code == 401 and ask("/v1/models", method="GET").status_code == 401
    assert ask("/health", method="GET").status_code == 200
    reply = ask(body=chat(), headers=key)
    assert reply.json()["alignment"]["applied"] == {"medical": -1.0, "legal": -0.33}
    assert reply.json()["alignment"]["forced"] == {"legal": -0.33}
    assert app.bodies[-1]["max_tokens"] == 7
    assert ask(body=chat(alignment={"medical": 0.62}), headers=key).json()["alignment"]["applied"]["medical"] == 0.6
    assert ask(body=chat(alignment={"medical": 0.7}), headers=key).status_code == 403
    assert ask(body=chat(alignment={"legal": 0}), headers=key).status_code == 403
    assert ask(body=chat(max_tokens=8), headers=key).status_code == 400
    assert ask(body=chat(), headers=key).status_code == 200
    assert (late := ask(body=chat(), headers=key)).status_code == 429 and int(late.headers["retry-after"]) > 0
    assert ask(body=chat(n=2, alignment={"legal": 1}), headers={"Authorization": f"Bearer {clinician}"}).is_success
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["status"] for line in lines] == [401, 200, 200, 403, 403, 400, 200, 429, 200]
    assert [line["key"] for line in lines] == [None, *["public"] * 7, "clinician"]
    assert (lines[1]["prompt_tokens"], lines[1]["completion_tokens"], lines[1]["finish"]) == (5, 2, ["stop"])
    assert lines[3]["alignment"]["requested"] == {"medical": 0.7} and lines[3]["error"] == "forbidden"
    assert lines[-1]["finish"] == ["stop", "stop"] and "prompt" not in lines[0]
    assert public not in audit.read_text()


def test_what_vllm_refuses_passes_through_and_is_written_down(start: Start, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    app, ask = start("gate", audit=audit, audit_prompts=True)
    app.status = 400
    reply = ask(body=chat(stream=False))
    assert reply.status_code == 400 and reply.json()["error"]["message"] == "vLLM says no"
    line = json.loads(audit.read_text())
    assert (line["status"], line["error"], line["finish"]) == (400, "vllm_400", [None])
    assert json.loads(line["prompt"]) == MESSAGES


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_under_the_audit_log_does_not_take_the_reply_with_it(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    _, ask = start("gate", audit=Path("/dev/full"))
    assert ask(body=chat()).json()["model"] == "demo"
    assert "no space left" in caplog.text


def test_a_client_that_left_and_a_stream_that_broke_are_written_down(start: Start, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    app, ask = start("gate", audit=audit)
    app.leaves = True
    assert ask(body=chat()).json() is None
    app.leaves, app.breaks = False, True
    assert "out of memory" in ask(body=chat(stream=True)).text
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["status"], line["error"]) for line in lines] == [(499, "cancelled"), (200, "in_stream")]
    assert lines[1]["completion_tokens"] == 2


@pytest.mark.parametrize(
    "field", [{"n": "2"}, {"n": 2.0}, {"n": True}, {"max_tokens": "9"}, {"max_completion_tokens": 9.5}], ids=str
)
def test_numbers_are_not_left_to_be_read_twice(start: Start, field: dict[str, Any]) -> None:
    app, ask = start("gate")
    assert ask(body=chat(**field)).status_code == 400 and app.bodies == []


def test_the_limit_of_tokens_is_always_sent(start: Start) -> None:
    key = new_key()
    app, ask = start("gate", policy={"keys": [{"name": "a", "hash": key_hash(key), "max_tokens": 7}]})
    head = {"Authorization": f"Bearer {key}"}
    body = {"model": "demo", "prompt": "Hi", "max_tokens": None, "max_completion_tokens": 1}
    assert ask("/v1/completions", body, headers=head).is_success
    assert {name: app.bodies[-1].get(name) for name in body if name.startswith("max")} == {
        "max_tokens": 1, "max_completion_tokens": None,
    }  # fmt: skip
    assert ask(body=chat(max_tokens=3, max_completion_tokens=9), headers=head).status_code == 400


def test_prompts_of_a_list_count_one_by_one_and_tokens_do_not(start: Start) -> None:
    app, ask = start("gate")
    assert ask("/v1/completions", {"model": "demo", "prompt": list(range(40))}).is_success
    assert ask("/v1/completions", {"model": "demo", "prompt": ["a"] * 9, "n": 2}).status_code == 400
    assert len(app.bodies) == 1


def test_a_part_cannot_name_an_adapter(start: Start) -> None:
    app, ask = start("adapters")
    part = {"type": "demo:medical=1", "uuid": "a", "image_url": {"url": "x"}}
    assert ask(body=chat(messages=[{"role": "user", "content": [part]}])).status_code == 400 and app.bodies == []


def test_vllm_forgets_the_names_of_adapters_that_are_gone(start: Start) -> None:
    app, ask = start("adapters", settings=2)
    names = [f"demo:legal={value:g}" for value in (0.1, 0.2, 0.3, 0.4)]
    for name in names:
        plugin.COMPOSERS["adapters"].folder(name)  # as the resolver does
        assert ask(body=chat(model=name)).is_success
        assert ask(body=chat(model=names[0])).is_success  # always in use
    assert sorted(app.models.lora_requests) == [names[0], names[3]]
    assert len(list(plugin.COMPOSERS["adapters"]._folder.iterdir())) == 2


def test_models_and_vectors_are_told_as_by_our_own_server(start: Start) -> None:
    app, ask = start("gate")
    assert ask("/v1/models", method="GET").json()["data"][0]["id"] == "demo"
    told = ask("/v1/alignment", method="GET").json()
    assert [one["name"] for one in told["data"]] == ["medical", "legal"] and told["router"] is None
    assert ask("/v1/models/demo:medical=0.5", method="GET").json()["id"] == "demo:medical=0.5"
    assert ask("/v1/models/demo:dental=0.5", method="GET").status_code == 404
    assert app.paths == []


def test_metrics_do_not_tell_what_users_ask_for(start: Start) -> None:
    _, ask = start("adapters")
    reply = ask("/metrics", method="GET")
    assert reply.text == "vllm:running 2\n" and reply.headers["content-length"] == "15"


def test_without_a_policy_only_this_machine_is_answered(start: Start) -> None:
    _, ask = start("gate")
    assert ask(body=chat(), headers={"Host": "example.org"}).status_code == 403
    assert ask("/health", method="GET", headers={"Origin": "http://example.org"}).status_code == 403


def test_a_client_that_names_its_request_finds_it_in_the_reply(start: Start) -> None:
    _, ask = start("gate")
    assert ask(body=chat(), headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert ask(body=chat(model="x"), headers={"X-Request-Id": "mine-2"}).headers["x-request-id"] == "mine-2"


def test_without_a_plan_vllm_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLAN, raising=False)
    with pytest.raises(ConfigError, match="alignvec serve --engine vllm"):
        AlignmentMiddleware(FakeVllm())
