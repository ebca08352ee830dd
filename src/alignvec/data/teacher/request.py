"""What is asked of a teacher, and what it answered."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """One chat completion.

    Attributes:
        model: name of the model at the endpoint.
        messages: chat messages as (role, content).
        temperature: 0 is greedy.
        top_p: nucleus.
        max_tokens: longest answer, in tokens.
        seed: the endpoint's sampling seed; requests that differ in it alone are different requests.
        repetition_penalty: an extension that not every endpoint knows; None: not sent.
        knobs: alignment vectors as (name, coefficient), for an endpoint that can turn them; None: not sent.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    repetition_penalty: float | None = None
    knobs: tuple[tuple[str, float], ...] | None = None

    @property
    def chat(self) -> list[dict[str, str]]:
        """The messages as a chat template takes them."""
        return [{"role": role, "content": content} for role, content in self.messages]

    @property
    def body(self) -> dict[str, Any]:
        """The request as the endpoint gets it."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": self.chat,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        if self.repetition_penalty is not None:
            body["repetition_penalty"] = self.repetition_penalty
        if self.knobs is not None:
            body["alignment"] = dict(self.knobs)
        return body

    @property
    def key(self) -> str:
        """Hash of the whole request."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @property
    def prompt_tokens(self) -> int:
        """Rough number of prompt tokens, for estimates: a token per four characters, and four per message."""
        return sum(len(content) // 4 + 4 for _, content in self.messages)

    @property
    def most_prompt_tokens(self) -> int:
        """No fewer than the prompt's tokens: a byte is a token at most, and a message has 16 of its own at most."""
        return sum(len(content.encode()) + 16 for _, content in self.messages)


@dataclass(frozen=True)
class Answer:
    """What a teacher answered.

    Attributes:
        text: the message, stripped.
        finish_reason: `stop`, `length`, ... as the endpoint said.
        prompt_tokens: as the endpoint counted; estimated if it did not.
        completion_tokens: likewise.
        time: when it came, ISO 8601, UTC.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    time: str


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2^31) that depends on all parts and on nothing else."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
