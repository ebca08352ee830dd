"""One request of a load test, and the one outcome that it has, whatever happens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from alignvec.errors import KnobError
from alignvec.serve.setting import Asked

Kind: TypeAlias = Literal["answered", "refused", "failed", "cut", "unreachable", "timed out", "left"]
"""How a request ended: with a finish reason, an HTTP error, an error in the stream, a stream without an end, no
connection, the client's patience used up, or the client hanging up on purpose."""


@dataclass(frozen=True)
class Probe:
    """One request to send.

    Attributes:
        body: JSON body of a chat completion; raw bytes to send something else.
        label: setting, as a user writes it; outcomes are grouped by it.
        nonce: sent as `X-Request-Id`, so that a reply can be matched with its request.
        leave_after: seconds after which the client hangs up; None to stay.
    """

    body: Mapping[str, Any] | bytes
    label: str = "base"
    nonce: str = ""
    leave_after: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one request. Times are in seconds; those of the reply count from when the request was due.

    Attributes:
        probe: the request.
        due: when it was due, on the clock of the load.
        kind: how it ended.
        status: HTTP status; None if there was none.
        lag: from due to sent; large if the client itself could not keep up.
        first: until the first text; None if there was none.
        gaps: between pieces of text.
        seconds: until the end.
        tokens: of the reply, as the server counts them; the number of pieces where it does not say.
        prompt_tokens: of the prompt, as the server counts them.
        finish: the reply's finish reason.
        text: the reply.
        error: what the server or the connection said.
        echoed: the reply's `X-Request-Id`.
        retry_after: the reply's `Retry-After`.
    """

    probe: Probe
    due: float
    kind: Kind
    status: int | None = None
    lag: float = 0.0
    first: float | None = None
    gaps: tuple[float, ...] = ()
    seconds: float = 0.0
    tokens: int = 0
    prompt_tokens: int | None = None
    finish: str | None = None
    text: str = ""
    error: str | None = None
    echoed: str | None = None
    retry_after: str | None = None

    @property
    def per_token(self) -> float | None:
        """Seconds per token after the first; None for a reply of fewer than two."""
        return sum(self.gaps) / (self.tokens - 1) if self.gaps and self.tokens > 1 else None


def chat_probe(
    prompt: str,
    setting: str = "base",
    *,
    model: str,
    max_tokens: int,
    seed: int | None = None,
    temperature: float | None = 0.0,
    nonce: str = "",
    leave_after: float | None = None,
) -> Probe:
    """A streamed chat completion of one user message under a setting such as `medical=expert,legal=0.5`.

    Raises:
        KnobError: if the setting cannot be read.
    """
    knobs = parse_setting(setting)
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "alignment": dict(knobs),
    }
    body |= {k: v for k, v in (("seed", seed), ("temperature", temperature), ("user", nonce or None)) if v is not None}
    return Probe(body, setting.strip() or "base", nonce, leave_after)


def parse_setting(text: str) -> Asked:
    """Knobs of `medical=expert,legal=0.5`; levels and percentages stay as written, for the server to read.

    Raises:
        KnobError: if a part is not name=value, or a name comes twice.
    """
    knobs: dict[str, float | str] = {}
    if text.strip() in ("", "base"):
        return knobs
    for part in text.split(","):
        name, _, value = (x.strip() for x in part.partition("="))
        if not name or not value:
            raise KnobError(f"cannot read knob {part.strip()!r}; write it like medical=expert or medical=0.5")
        if name in knobs:
            raise KnobError(f"knob {name!r} is given twice in {text!r}; give it once")
        try:
            knobs[name] = float(value)
        except ValueError:
            knobs[name] = value
    return knobs
