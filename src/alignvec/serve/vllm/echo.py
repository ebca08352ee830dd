"""vLLM's reply as alignvec's: with the knobs that were applied, and read along for the audit log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from alignvec.serve.vllm.turning import Turned
from alignvec.steer.knobs import format_knobs

APPLIED: Final = "X-Alignment-Applied"


@dataclass
class Echo:
    """Passes a reply on.

    Attributes:
        turned: the request.
        request: its id.
        send: where the reply goes.
        status: of the reply; 0 before it begins.
        prompt_tokens, completion_tokens: as vLLM counts them.
        finish: why each reply ended.
        texts: of each reply; tool calls are not text.
        error: an error that came in the middle of a stream, or `cancelled`.
    """

    turned: Turned
    request: str
    send: Send
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: dict[int, str | None] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    error: str | None = None
    _start: Message | None = None
    _kind: str = ""
    _waiting: bytes = b""
    _first: bool = True

    async def __call__(self, message: Message) -> None:
        """One message of vLLM's."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request
            content = headers.get("content-type", "")
            if self.status == 200:
                headers[APPLIED] = format_knobs(self.turned.setting.applied)
                self._kind = "events" if "event-stream" in content else "json" if "json" in content else ""
            if self._kind == "json":
                self._start = message
                return
            if self._kind == "events" and "content-length" in headers:
                del headers["content-length"]
            await self.send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._kind == "json":
            await self._json(body, more)
        elif self._kind == "events":
            await self.send({**message, "body": b"".join(self._events(body, more))})
        else:
            await self.send(message)

    async def _json(self, body: bytes, more: bool) -> None:
        self._waiting += body
        if more or self._start is None:
            return
        found = json.loads(self._waiting)
        if isinstance(found, dict):
            found = self._read(found)
        else:  # which vLLM sends to a client that has gone
            self.error = "cancelled"
        reply = json.dumps(found, ensure_ascii=False).encode()
        MutableHeaders(scope=self._start)["content-length"] = str(len(reply))
        await self.send(self._start)
        await self.send({"type": "http.response.body", "body": reply, "more_body": False})

    def _events(self, body: bytes, more: bool) -> Iterator[bytes]:
        self._waiting += body
        *whole, self._waiting = self._waiting.split(b"\n\n")
        for event in whole:
            changed = self._event(event)
            if changed is not None:
                yield changed + b"\n\n"
        if not more and self._waiting:
            yield self._waiting

    def _event(self, event: bytes) -> bytes | None:
        data = event.removeprefix(b"data: ")
        if data == event or data == b"[DONE]":
            return event
        chunk = json.loads(data)
        if "choices" not in chunk:  # an error in the middle
            self.error = "in_stream"
            return event
        last = not chunk["choices"]
        chunk = self._read(chunk)
        if last and not self.turned.usage:
            return None
        if not last and not (self.turned.usage and self.turned.each):
            chunk.pop("usage", None)
        return b"data: " + json.dumps(chunk, ensure_ascii=False).encode()

    def _read(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """A reply or a part of one; told are the knobs on the first part, on those that end one, and with the usage."""
        choices = chunk.get("choices", [])
        for choice in choices:
            index = choice.get("index", 0)
            part = choice.get("delta") or choice.get("message") or choice
            self.texts[index] = self.texts.get(index, "") + str(part.get("content") or part.get("text") or "")
            if choice.get("finish_reason"):
                self.finish[index] = choice["finish_reason"]
        if usage := chunk.get("usage"):
            self.prompt_tokens = usage.get("prompt_tokens") or 0
            self.completion_tokens = usage.get("completion_tokens") or 0
        ended = not choices or any(choice.get("finish_reason") for choice in choices)
        told = {"alignment": self.turned.setting.model_dump(mode="json")} if self._first or ended else {}
        self._first = False
        return {**chunk, "model": self.turned.model, **told}
