"""Bodies of requests: what is read, what is accepted and ignored, what is refused by name."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

MOST_CHOICES: Final = 16
HARMLESS: Final = frozenset({"user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"})
"""Fields that OpenAI's clients send and that change nothing here."""
NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
"""Fields of OpenAI's API that this server cannot honour, with the values (besides null) that ask for nothing."""
MESSAGE_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "name": (),
    "refusal": (),
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "tool_calls": ([],),
}
"""The same for messages: replies can be sent back as they came."""


def _without_neutral(value: Any, neutral: Mapping[str, tuple[Any, ...]], harmless: frozenset[str]) -> Any:
    if not isinstance(value, dict):
        return value
    for name in neutral.keys() & value.keys():
        if value[name] is not None and value[name] not in neutral[name]:
            raise PydanticCustomError("unsupported", "{field} is not supported; leave it out", {"field": name})
    return {name: one for name, one in value.items() if name not in neutral and name not in harmless}


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class TextPart(_Body):
    """Text of a message."""

    type: Literal["text"]
    """The only kind of part there is."""
    text: str
    """The text; parts are joined as they are."""


class Message(_Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks."""
    content: str | list[TextPart]
    """What is said."""

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, value: Any) -> Any:
        return _without_neutral(value, MESSAGE_NEUTRAL, frozenset())

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(_Body):
    """What a stream holds besides the reply."""

    include_usage: bool = False
    """A chunk with the counts of tokens before the end."""
    include_obfuscation: Literal[False] = False
    """Only false: nothing is padded here."""


def _stop_kind(value: Any) -> str:
    """Which branch a value is meant for: without it there are errors of all branches, and the others' mislead."""
    return "list[str]" if isinstance(value, list) else "str"


def _prompt_kind(value: Any) -> str:
    """The same for prompts."""
    if not isinstance(value, list):
        return "str"
    first = value[0] if value else ""
    return "list[list]" if isinstance(first, list) else "list[str]" if isinstance(first, str) else "list[int]"


Stop = Annotated[str, Field(min_length=1, max_length=500)]


class Body(_Body):
    """What both endpoints share."""

    model: str = Field(max_length=10_000)
    """Name of the model, as in /v1/models; knobs may follow after a colon, such as `demo:medical=expert,legal=-0.5`."""
    alignment: dict[str, float | str] | None = None
    """Knobs: vector name to λ (0.5), level (`expert`) or percentage (`80%`); or `goal` to a solved goal's name. An
    extension of OpenAI's API."""
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    """Longest reply in tokens; left out: what fits the context and the key's limit."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Left out: 1; 0 is greedy."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the likeliest tokens that hold this share of the probability; left out: 1."""
    repetition_penalty: float | None = Field(default=None, ge=1, le=10)
    """Lowers tokens that the reply has already; left out: 1, not at all. An extension of OpenAI's API."""
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    """Number of replies to each prompt; left out: 1."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """The same seed, prompt and settings give the same reply; left out: another each time."""
    stop: (
        Annotated[
            Annotated[Stop, Tag("str")] | Annotated[list[Stop], Field(max_length=4), Tag("list[str]")],
            Discriminator(_stop_kind),
        ]
        | None
    ) = None
    """Texts that end a reply; they are no part of it."""
    stream: bool | None = None
    """Send the reply piece by piece, as server-sent events."""
    stream_options: StreamOptions | None = None
    """What a stream holds besides the reply."""

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, value: Any) -> Any:
        return _without_neutral(value, NEUTRAL, HARMLESS)

    @field_validator("stream_options")
    @classmethod
    def _only_streams(cls, value: StreamOptions | None, info: Any) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise PydanticCustomError("no_stream", "is only for streams; set stream to true, or leave it out")
        return value

    @property
    def stops(self) -> list[str]:
        """Stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def reply_tokens(self) -> int | None:
        """Longest reply that was asked for."""
        return self.max_tokens


class ChatBody(Body):
    """Body of /v1/chat/completions."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "demo",
                "messages": [{"role": "user", "content": "I cannot sleep."}],
                "alignment": {"medical": "expert", "legal": -0.5},
                "max_tokens": 40,
            }
        }
    )

    messages: list[Message] = Field(min_length=1, max_length=2000)
    """The conversation so far."""
    max_completion_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    """The same as `max_tokens`, by its newer name."""
    logprobs: bool | None = None
    """Tell the log-probability of each token."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """With `logprobs`: of so many of the likeliest tokens too."""

    @model_validator(mode="after")
    def _consistent(self) -> "ChatBody":
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("no_logprobs", "top_logprobs needs logprobs; set it to true")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise PydanticCustomError("two_limits", "max_tokens and max_completion_tokens differ; send one of them")
        return self

    @property
    def reply_tokens(self) -> int | None:
        """Longest reply that was asked for."""
        return self.max_completion_tokens or self.max_tokens


Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionBody(Body):
    """Body of /v1/completions."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "demo:medical=expert",
                "prompt": "To sleep well,",
                "max_tokens": 40,
                "temperature": 0,
            }
        }
    )

    prompt: Annotated[
        Annotated[str, Tag("str")]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES), Tag("list[str]")]
        | Annotated[Tokens, Tag("list[int]")]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_CHOICES), Tag("list[list]")],
        Discriminator(_prompt_kind),
    ]
    """One text or several, as text or as token ids; with a router, one."""
    logprobs: int | None = Field(default=None, ge=0, le=5)
    """Tell the log-probability of each token, and of so many of the likeliest."""
