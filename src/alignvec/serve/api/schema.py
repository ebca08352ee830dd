"""What OpenAPI is told of every endpoint: the key, knobs in a header, and what a successful answer is."""

from typing import Any, Final

from fastapi import Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict

from alignvec.serve.api.knobs import HEADER


class Told(BaseModel):
    """A part of an answer: its fields are told by the lines under them, and there are no others."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


KNOBS_HEADER: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": HEADER,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "Knobs, such as `medical=0.8,legal=avoidance`, or a solved goal after `@`; for a vector "
            "that `alignment` in the body names as well, the body holds.",
            "example": "medical=0.8,legal=avoidance",
        }
    ]
}
"""What OpenAPI is told of knobs in a header."""
KEY: Final = Security(
    HTTPBearer(auto_error=False, description="an API key of the policy file; without a policy none is looked at")
)
"""What OpenAPI is told of API keys; `Gate` has checked them before."""
APPLIED: Final[dict[str, Any]] = {
    "X-Alignment-Applied": {
        "description": "λ of every vector that is turned, such as `medical=1,legal=-0.5`; `base` if none is",
        "schema": {"type": "string"},
    },
    "X-Request-Id": {
        "description": "id of the request: the one that it came with (up to 64 letters, digits, dots, dashes and "
        "underscores), or a new one; the audit log has it too",
        "schema": {"type": "string"},
    },
}
"""What OpenAPI is told of the headers of a reply."""


def answered(model: type[BaseModel], chunk: type[BaseModel] | None = None) -> dict[int | str, dict[str, Any]]:
    """The successful answer of an endpoint; with its events, if it can be streamed."""
    if chunk is None:
        return {200: {"model": model, "description": str(model.__doc__).rstrip(".")}}
    events = f"server-sent events, each `data: ` and a {chunk.__name__}; after the last one `data: [DONE]`"
    stream = {"text/event-stream": {"schema": {"type": "string", "description": events}}}
    return {200: {"model": model, "description": "the reply", "headers": APPLIED, "content": stream}}
