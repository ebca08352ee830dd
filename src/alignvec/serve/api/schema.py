"""What the endpoints answer, as OpenAPI tells it; tests hold the replies, which are plain objects, to these."""

from typing import Any, Final, Literal

from fastapi import Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict

from alignvec.serve.api.knobs import HEADER
from alignvec.serve.setting import Setting
from alignvec.vectors.calibration import Calibration, Spillover
from alignvec.vectors.card import Measurement

Finish = Literal["stop", "length"]


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Usage(_Told):
    """Tokens of a request."""

    prompt_tokens: int
    """Tokens of all prompts together."""
    completion_tokens: int
    """Tokens of all replies; the one that ends a turn counts."""
    total_tokens: int
    """Both."""


class Likely(_Told):
    """A token with its log-probability."""

    token: str
    """Its text; part of a character is written `bytes:\\xe2\\x82`."""
    logprob: float
    """Natural logarithm of its probability under the model with its knobs, before temperature and top-p."""
    bytes: list[int]
    """Its UTF-8 bytes."""


class Said(Likely):
    """A token of the reply."""

    top_logprobs: list[Likely]
    """The likeliest tokens in its place, as many as `top_logprobs` asked for."""


class ChatLogprobs(_Told):
    """Log-probabilities of a chat reply."""

    content: list[Said]
    """One entry for each token of the text."""
    refusal: None
    """Always null: OpenAI's clients look for it."""


class ReplyMessage(_Told):
    """The reply to a conversation."""

    role: Literal["assistant"]
    """Who speaks."""
    content: str
    """The reply."""
    refusal: None
    """Always null: a refusal is text of the reply."""


class ChatChoice(_Told):
    """One of `n` replies."""

    index: int
    """Its number, from 0."""
    message: ReplyMessage
    """The reply."""
    logprobs: ChatLogprobs | None
    """With `logprobs` in the request."""
    finish_reason: Finish
    """`stop`: the model or a stop string ended it; `length`: the limit of tokens did."""


class _Reply(_Told):
    id: str
    """Of this reply; the request's own id is in the header `X-Request-Id`."""
    created: int
    """When it began, in seconds since 1970."""
    model: str
    """The model's name as in the request, with any knobs in it."""


class ChatReply(_Reply):
    """A whole reply to a conversation."""

    object: Literal["chat.completion"]
    """What this is."""
    choices: list[ChatChoice]
    """`n` replies."""
    usage: Usage
    """Tokens."""
    alignment: Setting
    """The knobs: what was asked for and what is applied."""


class Delta(_Told):
    """What a chunk adds to a reply."""

    role: Literal["assistant"] | None = None
    """Who speaks: in the first chunk of a reply only."""
    content: str | None = None
    """More of the text."""


class ChunkChoice(_Told):
    """What a chunk says of one reply."""

    index: int
    """The reply's number, from 0."""
    delta: Delta
    """What is new."""
    logprobs: ChatLogprobs | None
    """Of the new tokens."""
    finish_reason: Finish | None
    """Why the reply ended: in its last chunk."""


class ChatChunk(_Reply):
    """One event of a streamed reply to a conversation; the last event is `[DONE]`."""

    object: Literal["chat.completion.chunk"]
    """What this is."""
    choices: list[ChunkChoice]
    """One reply's news; empty in the chunk with the usage."""
    usage: Usage | None = None
    """With `stream_options.include_usage`: null, and the tokens in the last chunk."""
    alignment: Setting | None = None
    """The knobs: in the first and the last chunk, and in that of the usage."""


class CompletionLogprobs(_Told):
    """Log-probabilities of a completion."""

    tokens: list[str]
    """The tokens' texts."""
    token_logprobs: list[float]
    """Natural logarithms of their probabilities."""
    top_logprobs: list[dict[str, float]] | None
    """The likeliest tokens in each place, if `logprobs` is over 0."""
    text_offset: list[int]
    """Where each token begins, in characters of the reply."""


class CompletionChoice(_Told):
    """One of the replies."""

    index: int
    """Its number, from 0: all replies to the first prompt, then the next one's."""
    text: str
    """What follows the prompt."""
    logprobs: CompletionLogprobs | None
    """With `logprobs` in the request."""
    finish_reason: Finish | None
    """Why it ended; null in a chunk that is not its last."""


class CompletionReply(_Reply):
    """A whole completion, or one event of a streamed one."""

    object: Literal["text_completion"]
    """What this is."""
    choices: list[CompletionChoice]
    """The replies."""
    usage: Usage | None = None
    """Tokens; in a stream as in `ChatChunk`."""
    alignment: Setting | None = None
    """The knobs; in a stream as in `ChatChunk`."""


class ModelInfo(_Told):
    """A name that a request can give as its `model`."""

    id: str
    """The name, with any knobs in it, such as `demo:medical=expert`."""
    object: Literal["model"]
    """What this is."""
    created: int
    """Always 0."""
    owned_by: Literal["alignvec"]
    """Who serves it."""


class ModelList(_Told):
    """The base model, and a name with a knob for each level of each vector that the key may ask for."""

    object: Literal["list"]
    """What this is."""
    data: list[ModelInfo]
    """The names."""


class Allowed(_Told):
    """How far the request's key may turn a vector."""

    min: float
    """Lowest λ it may ask for."""
    max: float
    """Highest λ it may ask for."""
    default: float
    """λ of a request that does not name the vector."""
    forced: bool
    """The policy sets it; `min` and `max` are both that λ."""


class VectorInfo(_Told):
    """One loaded vector."""

    name: str
    """The knob's name."""
    domain: str | None
    """What it is about."""
    levels: dict[str, float]
    """λ of each level."""
    usable_range: tuple[float, float] | None
    """λ that its card measured or calibrated; null: nothing was measured."""
    applied_range: tuple[float, float]
    """λ that requests are cut to."""
    key: Allowed | None
    """What the key may do with it; null: not turn it."""
    percent_curve: list[tuple[float, float]]
    """λ and share of the way from the base's behaviour to the highest level's: what a percentage is read off; empty: a
    percentage means nothing here."""
    measured: Measurement | None
    """The card's λ curve, by `alignvec sweep`."""
    calibration: Calibration | None
    """The card's calibration, by `alignvec calibrate`."""
    spillover: Spillover | None
    """What the knob changes in every domain, by `alignvec spillover`."""
    licence: str
    """Of the vector."""
    files: dict[str, str]
    """sha256 of each tensor file."""


class GoalInfo(_Told):
    """A solved setting that requests can name."""

    goal: str
    """Its name, such as `medical=expert,legal=avoidance`."""
    knobs: dict[str, float | str]
    """Its knobs."""
    reached: bool | None
    """Whether it was reached where it was solved; null: the file does not say."""
    constraints: list[str]
    """Bounds it was solved under."""
    blocked_by: str | None
    """What stood in its way."""


class RouterInfo(_Told):
    """The router in front of every knob."""

    domains: list[str]
    """What it can tell apart."""


class AlignmentInfo(_Told):
    """Everything that can be asked for, as far as the key may know."""

    object: Literal["list"]
    """What this is."""
    model: str
    """Name of the base model here."""
    data: list[VectorInfo]
    """The vectors."""
    goals: list[GoalInfo]
    """Solved settings, of `alignvec serve --settings`."""
    router: RouterInfo | None
    """Null: every knob acts on every prompt."""
    strict: bool
    """A knob outside the applied range is refused instead of cut."""
    precedence: str
    """Which knob holds where several places name one, in words."""


class Status(_Told):
    """That the server is well."""

    status: str
    """`ok` of /health, `ready` of /ready."""


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
