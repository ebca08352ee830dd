"""Every error in OpenAI's shape."""

import math
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from alignvec.errors import AlignvecError
from alignvec.serve.errors import BadRequestError, FailedError, MethodError, NoEndpointError, ServeError, as_served


class ErrorDetail(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    """What, why, and what to do next, for people."""
    type: str
    """Kind of error: `invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error`,
    `server_error`."""
    param: str | None
    """Field of the request that is wrong, if it is one."""
    code: str | None
    """Which error, for programs, such as `model_not_found`."""


class ErrorBody(BaseModel):
    """Body of every reply but a success."""

    error: ErrorDetail


CAUSES: Final[dict[int, str]] = {
    400: "the request cannot be read, asks for what is not there, or does not fit the context",
    401: "no API key, or one that is not known",
    403: "the key may not do that; without a policy: the request does not name this machine",
    404: "no such model, or no such endpoint",
    405: "the endpoint has other methods",
    408: "the body did not arrive in time",
    413: "the body is too large",
    429: "the queue is full, or the key has used up its requests per minute; `Retry-After` says when to try again",
    500: "the server is at fault",
    503: "the server is starting or ending, or the batch failed",
    504: "the request took longer than the server gives it",
}
"""What each status of an error means."""
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    **{status: {"description": cause, "model": ErrorBody} for status, cause in CAUSES.items()},
    "default": {"description": "any other error", "model": ErrorBody},  # else FastAPI tells of its own 422
}


def error_response(error: AlignvecError) -> Response:
    """The reply to a request that cannot be answered."""
    known = as_served(error)
    headers = {} if known.retry_after is None else {"retry-after": str(max(1, math.ceil(known.retry_after)))}
    if known.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(known.body(), known.status, headers)


def unexpected() -> Response:
    """The reply when the server itself is at fault."""
    return error_response(
        FailedError("the server failed on this request; try again, and tell whoever runs it the x-request-id")
    )


def invalid(error: RequestValidationError) -> BadRequestError:
    """The error of a body that is not as it should be, naming the field."""
    if isinstance(error.body, bytes):  # an object, as `Gate` has seen, that nothing here may read
        return BadRequestError("the body is not sent as JSON; add the header Content-Type: application/json")
    # of the branches of a union the one that got furthest is what the caller meant
    worst = max(error.errors(), key=lambda one: len(one["loc"]))
    parts = [str(part) for part in worst["loc"][1:] if not _is_branch(part)]
    field = ".".join(parts)[:100] or worst.get("ctx", {}).get("field")
    message = worst["msg"] if worst["type"] != "extra_forbidden" else "is no field of this request; leave it out"
    if parts and parts[0] == "alignment":
        message = 'must be a number, a level or a percentage for each vector, such as {"medical": 0.5}'
    return BadRequestError(f"{field}: {message}" if parts else message, param=field)


def add_handlers(app: FastAPI, refused: Callable[[Request, AlignvecError], None]) -> None:
    """Answer all errors of an app in one shape.

    Args:
        app: the app.
        refused: told of bodies that are not as they should be.
    """

    @app.exception_handler(AlignvecError)
    async def _known(_: Request, error: AlignvecError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        found = invalid(error)
        refused(request, found)
        return error_response(found)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        kind: type[ServeError] = {404: NoEndpointError, 405: MethodError}.get(error.status_code, BadRequestError)
        message = f"{request.method} {request.url.path[:200]}: {error.detail}; see /openapi.json"
        return JSONResponse(kind(message).body(), error.status_code, error.headers)


def _is_branch(part: int | str) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("str", "float", "int"))
