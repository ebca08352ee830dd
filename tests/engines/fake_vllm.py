"""An app that answers as vLLM does, behind the middleware."""

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


def behind_middleware(plan_for: MakePlan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Returns start: start("gate", policy=...) gives the app behind the middleware, and what asks the middleware."""

    def make(way: str, **options: Any) -> tuple[FakeVllm, Ask]:
        if isinstance(policy := options.get("policy"), dict):
            options["policy"] = folder / "policy.yaml"
            options["policy"].write_text(yaml.safe_dump(policy))
        plan = plan_for(way, **options)
        _write(plan, folder, monkeypatch)
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
