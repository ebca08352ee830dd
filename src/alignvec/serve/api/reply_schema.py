"""Replies of chats and completions, as OpenAPI tells them; tests hold the replies, plain objects, to these."""

from typing import Literal

from alignvec.serve.api.schema import Told
from alignvec.serve.setting import Setting

Finish = Literal["stop", "length"]


class Usage(Told):
    """Tokens of a request."""

    prompt_tokens: int
    """Tokens of all prompts together."""
    completion_tokens: int
    """Tokens of all replies; the one that ends a turn counts."""
    total_tokens: int
    """Both."""


class Likely(Told):
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


class ChatLogprobs(Told):
    """Log-probabilities of a chat reply."""

    content: list[Said]
    """One entry for each token of the text."""
    refusal: None
    """Always null: OpenAI's clients look for it."""


class ReplyMessage(Told):
    """The reply to a conversation."""

    role: Literal["assistant"]
    """Who speaks."""
    content: str
    """The reply."""
    refusal: None
    """Always null: a refusal is text of the reply."""


class ChatChoice(Told):
    """One of `n` replies."""

    index: int
    """Its number, from 0."""
    message: ReplyMessage
    """The reply."""
    logprobs: ChatLogprobs | None
    """With `logprobs` in the request."""
    finish_reason: Finish
    """`stop`: the model or a stop string ended it; `length`: the limit of tokens did."""


class _Reply(Told):
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


class Delta(Told):
    """What a chunk adds to a reply."""

    role: Literal["assistant"] | None = None
    """Who speaks: in the first chunk of a reply only."""
    content: str | None = None
    """More of the text."""


class ChunkChoice(Told):
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


class CompletionLogprobs(Told):
    """Log-probabilities of a completion."""

    tokens: list[str]
    """The tokens' texts."""
    token_logprobs: list[float]
    """Natural logarithms of their probabilities."""
    top_logprobs: list[dict[str, float]] | None
    """The likeliest tokens in each place, if `logprobs` is over 0."""
    text_offset: list[int]
    """Where each token begins, in characters of the reply."""


class CompletionChoice(Told):
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
