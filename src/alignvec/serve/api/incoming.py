"""What is read of a request before anything answers it: who sends it, and a body that is small enough and readable."""

import asyncio
import json
import re
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from alignvec.serve.address import is_loopback
from alignvec.serve.errors import BadRequestError, ForbiddenError, SlowBodyError, TooLargeError, UnauthorizedError

MOST_BYTES = 1_000_000
BODY_SECONDS = 30.0
"""What a body may take to arrive: one that trickles would hold back the end of the process."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A request's id that a client may choose, to find it again in the audit log."""


def request_id(headers: Headers) -> str:
    """The id that a client gives its request, or a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else f"req_{token_hex(12)}"


def require_near(headers: Headers) -> None:
    """Check that a request names this machine: a web page elsewhere must not reach it through a visitor's browser.

    Raises:
        ForbiddenError: if it names another.
    """
    origin = headers.get("origin")
    named = [headers.get("host", ""), *([origin.partition("://")[2]] if origin else [])]
    if any(not is_loopback(urlsplit(f"//{name}").hostname or "") for name in named):
        raise ForbiddenError(
            "without a policy the server answers requests that name this machine only; use 127.0.0.1 or localhost, "
            "or start it with --policy"
        )


class ClientGone(Exception):
    """The client went away before its request was whole."""


def api_key(headers: Headers) -> str | None:
    """The key of the Authorization header; None if there is none.

    Raises:
        UnauthorizedError: if it cannot be read.
    """
    given = headers.get("authorization")
    if given is None:
        return None
    scheme, _, key = given.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise UnauthorizedError("cannot read the Authorization header; send Authorization: Bearer and your key")
    return key.strip()


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: if it is over `MOST_BYTES`.
        SlowBodyError: if it does not arrive in time.
        ClientGone: if the client goes away.
    """
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
            raise ClientGone
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) > MOST_BYTES:
        raise TooLargeError(f"the body is over {MOST_BYTES} bytes; send a shorter one")
    return bytes(body)


def read_object(body: bytes) -> dict[str, Any]:
    """A body as the JSON object that it must be.

    Raises:
        BadRequestError: if it is none.
    """
    # this reader refuses what Python's accepts: NaN, halves of surrogate pairs, nesting without end
    try:
        value = from_json(body, allow_inf_nan=False)
        json.loads(body, object_pairs_hook=_distinct)  # of a name that is there twice it keeps the last
    except ValueError as error:
        raise BadRequestError(f"the body is no valid JSON: {str(error)[:200]}; send a JSON object") from None
    if not isinstance(value, dict):
        raise BadRequestError("the body is no JSON object; send one")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    """Check that no name of an object is there twice."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise BadRequestError(f"{name[:40]!r} comes twice in one object of the body; name it once")
        seen.add(name)


def again(body: bytes, receive: Receive) -> Receive:
    """What gives an app a body that has been read, and then whatever comes."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
