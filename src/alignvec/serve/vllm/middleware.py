"""ASGI middleware around vLLM's server: alignvec's requests, policy and audit log in front of vLLM's engine."""

import asyncio
import json
import shutil
import time
from contextlib import nullcontext
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignvec.engines.vllm.plan import current_plan
from alignvec.engines.vllm.plugin import composer
from alignvec.errors import AlignvecError, ConfigError
from alignvec.serve.api.errors import error_response
from alignvec.serve.api.incoming import ClientGone, again, api_key, read_body, read_object, request_id, require_near
from alignvec.serve.api.knobs import model_knobs, name_error
from alignvec.serve.api.told import told_alignment, told_model, told_models
from alignvec.serve.ask import GONE
from alignvec.serve.errors import BadRequestError, ForbiddenError, NoEndpointError, as_served
from alignvec.serve.goals import check_goals
from alignvec.serve.policy.audit import AuditLog, Entry, now
from alignvec.serve.policy.limits import RateLimits
from alignvec.serve.policy.policy import load_policy, open_policy
from alignvec.serve.policy.rules import Rules
from alignvec.serve.resolve import resolve_request
from alignvec.serve.setting import Setting
from alignvec.serve.vllm.echo import Echo
from alignvec.serve.vllm.turning import Turned, Turner
from alignvec.steer.scale import scale_of
from alignvec.steer.solved import read_settings
from alignvec.vectors.store import load_card

REPLIES: Final = ("/v1/chat/completions", "/v1/completions")
OPEN: Final = ("/health", "/ping", "/version", "/metrics")
"""Paths that need no key; all others that vLLM has would pass the policy by, and are not found."""


LISTED: Final = b"vllm:lora_requests_info"


class AlignmentMiddleware:
    """What vLLM's `--middleware` names; the plan in the environment says what it does.

    Raises:
        ConfigError: if there is no plan, or policy or goals do not fit the vectors.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        plan = current_plan()
        if plan is None:
            raise ConfigError("no plan in the environment; start vLLM with alignvec serve --engine vllm")
        self.plan = plan
        cards = [load_card(folder) for folder in plan.vectors]
        self.cards = {card.name: card for card in cards}
        self.scales = {card.name: scale_of(card) for card in cards}
        self.policy = load_policy(plan.policy) if plan.policy else open_policy()
        self.policy.check(self.scales)
        self.goals = read_settings(plan.goals) if plan.goals else {}
        check_goals(self.goals, self.scales)
        self.limits = RateLimits()
        self.audit = AuditLog(plan.audit, plan.audit_prompts)
        self.composer = composer(plan) if plan.way == "adapters" else None
        self.turner = Turner(plan, self.scales, self.goals, self.composer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it in OpenAI's error shape."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "no such endpoint"})
            return
        headers, path, began = Headers(scope=scope), scope["path"], time.monotonic()
        request = request_id(headers)
        entry = Entry(None, request, path, "")
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request
            await send(message)

        try:
            if self.policy.open:
                require_near(headers)
            if path in OPEN:
                await self.app(scope, receive, _without_settings(answer) if path == "/metrics" else answer)
                return
            rules = self.policy.rules(api_key(headers))
            entry.key = rules.name
            if path in REPLIES and scope["method"] == "POST":
                await self._reply(scope, receive, answer, rules, entry)
            else:
                await JSONResponse(self._told(scope["method"], path, rules))(scope, receive, answer)
        except ClientGone:
            entry.error = "cancelled"
        except AlignvecError as error:
            known = as_served(error)
            entry.error = known.code
            if isinstance(error, ForbiddenError) and error.requested:
                entry.alignment = Setting(requested=dict(error.requested))
            await error_response(known)(scope, receive, answer)
        finally:
            if path in REPLIES:
                status = GONE if entry.error == "cancelled" else status or 500
                entry.status, entry.seconds, entry.time = status, round(time.monotonic() - began, 6), now()
                self.audit.note(entry)

    def _told(self, method: str, path: str, rules: Rules) -> dict[str, Any]:
        model = self.plan.model
        if method == "GET" and path == "/v1/models":
            return told_models(model, self.scales, rules)
        if method == "GET" and path == "/v1/alignment":
            return told_alignment(model, self.cards, self.scales, rules, self.goals, strict=self.plan.strict)
        if method == "GET" and path.startswith("/v1/models/"):
            name = path.removeprefix("/v1/models/")
            try:
                resolve_request([model_knobs(name, model)], self.goals, self.scales, rules, strict=self.plan.strict)
            except (BadRequestError, ForbiddenError) as error:
                raise name_error(error) from None
            return told_model(name)
        raise NoEndpointError(f"{method} {path[:200]}: no such endpoint here; see docs/vllm.md for those there are")

    async def _reply(self, scope: Scope, receive: Receive, send: Send, rules: Rules, entry: Entry) -> None:
        headers = Headers(scope=scope)
        body = read_object(await read_body(headers, receive))
        entry.model = str(body.get("model") or "")[:256]
        turned = self.turner.turn(body, headers, rules)
        entry.model, entry.alignment = turned.model, turned.setting
        self.limits.admit(rules, turned.choices)
        sent = json.dumps(turned.body).encode()
        scope = {**scope, "headers": _headers(scope, len(sent))}
        echo = Echo(turned, entry.request, send)
        try:
            with self.composer.running(turned.body["model"]) if self.composer else nullcontext():
                await self.app(scope, again(sent, receive), echo)
        finally:
            self._note(entry, turned, echo)
            await self._retire(scope)

    def _note(self, entry: Entry, turned: Turned, echo: Echo) -> None:
        entry.prompt_tokens, entry.completion_tokens = echo.prompt_tokens, echo.completion_tokens
        entry.finish = [echo.finish.get(i) for i in range(turned.choices)]
        entry.reply = [echo.texts.get(i, "") for i in range(turned.choices)]
        prompt = turned.body.get("messages", turned.body.get("prompt"))
        entry.prompt = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
        if echo.error or not all(entry.finish):
            cut = "cancelled" if echo.status == 200 else f"vllm_{echo.status}" if echo.status else "failed"
            entry.error = echo.error or cut

    async def _retire(self, scope: Scope) -> None:
        """Have vLLM forget the settings whose adapters go: it lists every name that it has ever resolved."""
        if self.composer is None:
            return
        models: Any = scope["app"].state.openai_serving_models
        retired = self.composer.retire()
        for name in retired:
            models.lora_requests.pop(name, None)
            models.lora_resolver_lock.pop(name, None)
        for folder in retired.values():
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _without_settings(send: Send) -> Send:
    """Passes metrics on but for the one that lists adapters by name: with `adapters` those are what users ask for."""
    start: Message = {}
    body = bytearray()

    async def filtered(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body", False):
            return
        kept = b"".join(line for line in body.splitlines(keepends=True) if LISTED not in line)
        MutableHeaders(scope=start)["content-length"] = str(len(kept))
        await send(start)
        await send({"type": "http.response.body", "body": kept})

    return filtered


def _headers(scope: Scope, length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"content-type")]
    return [*kept, (b"content-length", str(length).encode()), (b"content-type", b"application/json")]
