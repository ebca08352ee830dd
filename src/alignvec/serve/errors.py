"""What can go wrong with a request, with the HTTP status and the fields of OpenAI's error shape."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from alignvec.errors import AlignvecError


class ServeError(AlignvecError):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status.
        kind: `type` in OpenAI's error shape.
        code: `code` in OpenAI's error shape.

    Args:
        message: what, why, and what to do next.
        param: the field of the request that is wrong, if there is one.
        retry_after: seconds after which the same request may be tried again.
    """

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after

    def body(self) -> Mapping[str, Mapping[str, str | None]]:
        """JSON object in OpenAI's error shape."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


class BadRequestError(ServeError):
    """The request is malformed, or asks for what is not there."""


class TooLongError(ServeError):
    """Prompt and reply do not fit the context, or the key's limit of tokens."""

    code = "context_length_exceeded"


class UnreadableKnobError(BadRequestError):
    """A knob is not `name=value`, or its value is no number, level or percentage."""


class UnauthorizedError(ServeError):
    """No API key, or one that the policy does not know."""

    status, kind, code = 401, "authentication_error", "invalid_api_key"


class MissingKeyError(UnauthorizedError):
    """There is no API key at all."""


class ForbiddenError(ServeError):
    """The key may not use this vector, this coefficient or this endpoint.

    Attributes:
        requested: the knobs or goal that were asked for, as written, if it is about knobs.
    """

    requested: Mapping[str, float | str] = MappingProxyType({})
    status, kind, code = 403, "permission_error", "forbidden"


class UnknownModelError(ServeError):
    """No such model, as `gpt-4o` or `demo:medical`; knobs in a model's name that cannot be read are 400."""

    status, code = 404, "model_not_found"


class NoEndpointError(ServeError):
    """No such endpoint."""

    status, code = 404, "not_found"


class MethodError(ServeError):
    """The endpoint has other methods; `Allow` names them."""

    status, code = 405, "method_not_allowed"


class TooLargeError(ServeError):
    """The body is larger than the server reads."""

    status, code = 413, "body_too_large"


class SlowBodyError(ServeError):
    """The body did not arrive in time."""

    status, code = 408, "body_timeout"


class RateLimitedError(ServeError):
    """The key has used up its requests per minute."""

    status, kind, code = 429, "rate_limit_error", "rate_limit_exceeded"


class OverloadedError(ServeError):
    """The queue is full."""

    status, kind, code = 429, "rate_limit_error", "queue_full"


class FailedError(ServeError):
    """The server is at fault; its log has more."""

    status, kind, code = 500, "server_error", "internal_error"


class UnavailableError(ServeError):
    """The batch failed (out of memory), or the server is starting or draining."""

    status, kind, code = 503, "server_error", "unavailable"


class TimedOutError(ServeError):
    """The request took longer than the server gives it."""

    status, kind, code = 504, "server_error", "timeout"


def as_served(error: AlignvecError) -> ServeError:
    """Any of our errors as one that has a status: what is wrong is the request, unless the error says otherwise."""
    return error if isinstance(error, ServeError) else BadRequestError(str(error))
