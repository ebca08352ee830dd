"""What every request passes first: an id, its key, and a body that is small enough and readable."""

import logging
import time
import traceback

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignvec.serve.api.errors import error_response, unexpected
from alignvec.serve.api.incoming import ClientGone, again, api_key, read_body, read_object, request_id, require_near
from alignvec.serve.ask import RELOAD, Incoming
from alignvec.serve.errors import ServeError
from alignvec.serve.ledger import REQUEST
from alignvec.serve.service import Service

PROBES = ("/health", "/ready", "/metrics")
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", RELOAD, "/v1/models", "/v1/alignment", *PROBES)
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
        request, status = request_id(Headers(scope=scope)), 0
        REQUEST.set(Incoming(request, time.monotonic()))

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request
            await send(message)

        try:
            if f"{path}/".startswith("/v1/"):
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
                receive = again(await read_body(Headers(scope=scope), receive), receive)
        except ServeError as error:
            await error_response(error)(scope, receive, send)
            return
        except ClientGone:
            return
        await self.app(scope, receive, send)

    def _require_near(self, headers: Headers) -> None:
        if self.service.policy.open:
            require_near(headers)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        name: str | None = None
        try:
            self._require_near(Headers(scope=scope))
            rules = self.service.rules(api_key(Headers(scope=scope)))
            name = rules.name
            scope.setdefault("state", {})["rules"] = rules
            if scope["method"] == "POST":
                body = await read_body(Headers(scope=scope), receive)
                if scope["path"] in REPLIES:
                    read_object(body)
                receive = again(body, receive)
        except ServeError as error:
            if scope["path"] in AUDITED:
                self.service.refused(scope["path"], name, error)
            await error_response(error)(scope, receive, send)
            return
        except ClientGone:
            return
        await self.app(scope, receive, send)


def _endpoint(path: str) -> str:
    if path.startswith("/v1/models/"):
        return "/v1/models"
    return path if path in ENDPOINTS else "other"
