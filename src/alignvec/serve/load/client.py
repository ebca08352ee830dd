"""Sends one request and watches its reply arrive; every way it can end is an outcome, never an exception."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2

from alignvec.serve.load.outcome import Kind, Outcome, Probe

Clock: TypeAlias = Callable[[], float]
"""Seconds since any fixed moment."""


def open_client(url: str, *, key: str | None = None) -> httpx2.AsyncClient:
    """A client with as many connections as there are requests, so that none waits for another's.

    Args:
        url: base URL, with `/v1`.
        key: API key.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx2.AsyncClient(base_url=url.rstrip("/"), headers=headers, timeout=None, limits=limits, trust_env=False)


async def ask(
    client: httpx2.AsyncClient, probe: Probe, *, due: float, patience: float, clock: Clock = time.perf_counter
) -> Outcome:
    """Send a request now and follow its reply to the end.

    Args:
        client: see `open_client`.
        probe: the request.
        due: when it should have been sent, on `clock`; times count from then, so that a late client hides nothing.
        patience: seconds after which the client gives up.
        clock: the clock.
    """
    reply = _Reply(lag=clock() - due)
    kind: Kind | None = None
    try:
        async with asyncio.timeout(patience if probe.leave_after is None else min(probe.leave_after, patience)):
            await _follow(client, probe, reply, clock)
    except TimeoutError:
        kind = "timed out" if probe.leave_after is None or probe.leave_after > patience else "left"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reply.error = f"{type(error).__name__}: {error}"
        kind = "unreachable" if reply.status is None else "cut"
    return reply.outcome(probe, due, kind, clock() - due)


@dataclass
class _Reply:
    """A reply as far as it has come."""

    lag: float
    status: int | None = None
    times: list[float] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    counted: int | None = None
    prompt_tokens: int | None = None
    finish: str | None = None
    error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def kind(self) -> Kind:
        if self.status is not None and self.status >= 400:
            return "refused"
        if self.error is not None:
            return "failed"
        return "cut" if self.finish is None else "answered"

    def outcome(self, probe: Probe, due: float, kind: Kind | None, seconds: float) -> Outcome:
        return Outcome(
            probe=probe,
            due=due,
            kind=kind or self.kind(),
            status=self.status,
            lag=self.lag,
            first=self.times[0] - due if self.times else None,
            gaps=tuple(b - a for a, b in zip(self.times, self.times[1:], strict=False)),
            seconds=seconds,
            tokens=len(self.times) if self.counted is None else self.counted,
            prompt_tokens=self.prompt_tokens,
            finish=self.finish,
            text="".join(self.parts),
            error=self.error,
            echoed=self.headers.get("x-request-id"),
            retry_after=self.headers.get("retry-after"),
        )


async def _follow(client: httpx2.AsyncClient, probe: Probe, reply: _Reply, clock: Clock) -> None:
    content = probe.body if isinstance(probe.body, bytes) else json.dumps(probe.body).encode()
    headers = {"Content-Type": "application/json"} | ({"X-Request-Id": probe.nonce} if probe.nonce else {})
    async with client.stream("POST", "/chat/completions", content=content, headers=headers) as response:
        reply.status, reply.headers = response.status_code, response.headers
        if response.status_code >= 400:
            reply.error = _message(await response.aread())
            return
        async for line in response.aiter_lines():
            if line.startswith("data:") and (data := line.removeprefix("data:").strip()) != "[DONE]":
                _take(data, reply, clock())


def _take(data: str, reply: _Reply, now: float) -> None:
    try:
        event: dict[str, Any] = json.loads(data)
        if event.get("error"):
            reply.error = str(event["error"].get("message", event["error"]))
            return
        if usage := event.get("usage"):
            reply.counted, reply.prompt_tokens = int(usage["completion_tokens"]), usage.get("prompt_tokens")
        for choice in event.get("choices", ()):
            if text := choice["delta"].get("content"):
                reply.times.append(now)
                reply.parts.append(text)
            reply.finish = choice.get("finish_reason") or reply.finish
    except (ValueError, TypeError, KeyError, AttributeError):
        reply.error = f"not an event of a chat completion: {data[:80]!r}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, TypeError, KeyError):
        return body[:200].decode(errors="replace")
