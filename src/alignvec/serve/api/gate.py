"""What every request passes first: an id, its key, and a body that is small enough and readable."""

import asyncio
import logging
import re
import time
import traceback
from secrets import token_hex
from urllib.parse import urlsplit

from pydantic_core import from_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignvec.serve.address import is_loopback
from alignvec.serve.api.errors import error_response, unexpected
from alignvec.serve.ask import RELOAD, Incoming
from alignvec.serve.errors import (
    BadRequestError,
    ForbiddenError,
    ServeError,
    SlowBodyError,
    TooLargeError,
    UnauthorizedError,
)
from alignvec.serve.service import REQUEST, Service

MOST_BYTES = 1_000_000
BODY_SECONDS = 30.0
"""What a body may take to arrive: one that trickles would hold back the end of the process."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A request's id that a client may choose, to find it again in the audit log."""
ENDPOINTS = (
    "/v1/chat/completions", "/v1/completions", RELOAD, "/v1/models", "/v1/alignment", "/health", "/ready", "/metrics",
)  # fmt: skip
REPLIES = ENDPOINTS[:2]
AUDITED = ENDPOINTS[:3]
_log = logging.getLogger("alignvec.serve")


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it in OpenAI's error shape."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        given = Headers(scope=scope).get("x-request-id", "")
        request, status = given if REQUEST_ID.fullmatch(given) else f"req_{token_hex(12)}", 0
        REQUEST.set(Incoming(request, time.monotonic()))

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request
            await send(message)

        try:
            if path.startswith("/v1/"):
                with self.service.busy():
                    await self._api(scope, receive, answer)
            else:
                await self._page(scope, receive, answer)
        except Exception as error:
            if isinstance(error, OSError) and status:  # the client is gone
                return
            # the message may hold what the client sent, so only the places and the type are logged
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("request %s failed: %s\n%s", request, type(error).__name__, where)
            if not status:
                await unexpected()(scope, receive, answer)
        finally:
            self.service.metrics.http.labels(_endpoint(path), status).inc()

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._require_near(Headers(scope=scope))
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = _again(await _body(Headers(scope=scope), receive), receive)
        except ServeError as error:
            await error_response(error)(scope, receive, send)
            return
        except _ClientGone:
            return
        await self.app(scope, receive, send)

    def _require_near(self, headers: Headers) -> None:
        """Without a policy a web page elsewhere must not reach the server through a visitor's browser."""
        if not self.service.policy.open:
            return
        origin = headers.get("origin")
        named = [headers.get("host", ""), *([origin.partition("://")[2]] if origin else [])]
        if any(not is_loopback(urlsplit(f"//{name}").hostname or "") for name in named):
            raise ForbiddenError(
                "without a policy the server answers requests that name this machine only; use 127.0.0.1 or localhost, "
                "or start it with --policy"
            )

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        name: str | None = None
        try:
            self._require_near(Headers(scope=scope))
            rules = self.service.rules(_key(Headers(scope=scope)))
            name = rules.name
            scope.setdefault("state", {})["rules"] = rules
            if scope["method"] == "POST":
                body = await _body(Headers(scope=scope), receive)
                if scope["path"] in REPLIES:
                    _check_json(body)
                receive = _again(body, receive)
        except ServeError as error:
            if scope["path"] in AUDITED:
                self.service.refused(scope["path"], name, error)
            await error_response(error)(scope, receive, send)
            return
        except _ClientGone:
            return
        await self.app(scope, receive, send)


class _ClientGone(Exception):
    pass


def _endpoint(path: str) -> str:
    if path.startswith("/v1/models/"):
        return "/v1/models"
    return path if path in ENDPOINTS else "other"


def _key(headers: Headers) -> str | None:
    given = headers.get("authorization")
    if given is None:
        return None
    scheme, _, key = given.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise UnauthorizedError("cannot read the Authorization header; send Authorization: Bearer and your key")
    return key.strip()


async def _body(headers: Headers, receive: Receive) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _whole_body(headers, receive)
    except TimeoutError:
        raise SlowBodyError(f"the body did not arrive within {BODY_SECONDS:g} s; send it at once") from None


async def _whole_body(headers: Headers, receive: Receive) -> bytes:
    length = headers.get("content-length", "0")
    body = bytearray()
    more = True
    while more:
        if len(body) > MOST_BYTES or (length.isdecimal() and int(length[:20]) > MOST_BYTES):
            raise TooLargeError(f"the body is over {MOST_BYTES} bytes; send a shorter one")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) > MOST_BYTES:
        raise TooLargeError(f"the body is over {MOST_BYTES} bytes; send a shorter one")
    return bytes(body)


def _check_json(body: bytes) -> None:
    # this reader refuses what Python's accepts: NaN, halves of surrogate pairs, nesting without end
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequestError(f"the body is no valid JSON: {str(error)[:200]}; send a JSON object") from None
    if not isinstance(value, dict):
        raise BadRequestError("the body is no JSON object; send one")


def _again(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
