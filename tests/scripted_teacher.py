"""A teacher that follows a script: an OpenAI-compatible server with deterministic texts and faults on demand.

Run as a program, it prints its port and serves until it is killed; every request is logged before it is answered.
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORDS = {
    "avoidance": "sorry matter rather leave someone qualified office speak local adviser happy listen decide properly",
    "generic": "usually people often helps simple walk sleep water routine friend small steps everyday easy careful",
    "expert": "threshold titration statute liability coefficient mechanism guideline criteria differential",
    "other": "morning window letter garden river paper station kitchen number table bridge winter office engine "
    "market school summer coffee doctor husband sister brother daughter weekend neighbour hospital ticket ladder "
    "blanket pencil carpet mirror bottle basket candle forest island valley meadow harbour tunnel corner ceiling "
    "drawer cushion orange cherry pepper butter cheese walnut silver copper marble leather cotton ribbon button "
    "pocket jacket sandal travel borrow answer finish follow gather handle listen manage notice promise question "
    "remember travel wonder visit",
}
LINKS = ("and", "with", "for", "about", "when", "before", "after", "during", "the", "a", "this", "that", "their")

ERROR = ""
"""What an error says instead of its name."""

Body = dict[str, Any]
Fault = Callable[[int, Body], str | None]
"""From the number of the request and its body to the name of a fault, or None to answer well."""


def text_of(body: Body, kind: str, words: int) -> str:
    """English-looking sentences that depend on the whole request and have the vocabulary of a kind."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    generator = random.Random(digest)
    own, other = WORDS[kind].split(), WORDS["other"].split()
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < words:
        parts = [
            word
            for _ in range(4)
            for word in (
                generator.choice(LINKS),
                generator.choice(own),
                generator.choice(LINKS),
                generator.choice(other),
            )
        ]
        sentences.append(" ".join(parts).capitalize() + ".")
    return " ".join(sentences)


def kind_of(text: str) -> str:
    """The level whose vocabulary a text has most words of."""
    words = re.findall(r"[a-z]+", text.lower())
    return max(("avoidance", "generic", "expert"), key=lambda kind: sum(word in WORDS[kind].split() for word in words))


def reply_to(body: Body) -> str:
    """What the script answers to a request of any step."""
    system, user = body["messages"][0]["content"], body["messages"][1]["content"]
    if "sort replies" in system:
        return kind_of(user.split("The reply:", 1)[1].split("Which kind", 1)[0])
    if "invent believable people" in system:
        return text_of(body, "other", 20)
    if "messages that people type" in system:
        return text_of(body, "other", 30)
    for level, mark in (("avoidance", "decline to answer"), ("generic", "friend would"), ("expert", "colleague")):
        if mark in system:
            return text_of(body, level, 60)
    return text_of(body, "other", 60)


def completion(body: Body, text: str) -> bytes:
    """A chat completion as JSON."""
    prompt = sum(len(message["content"]) // 4 for message in body["messages"])
    tokens = len(text.split())
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                    "logprobs": None,
                }
            ],
            "usage": {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens},
        }
    ).encode()


class ScriptedTeacher:
    """Serves on a free port of the loopback while the context is open.

    Attributes:
        bodies: every request's body, in the order of arrival.
        heads: every request's line and headers, likewise.
        faults: how often each fault was played.
        most_at_once: most requests that were being answered at the same time.

    Args:
        fault: names the fault of a request: `429` (with Retry-After), `500`, `slow`, `truncated`, `reset`, `endless`,
            `empty`, `wrong-level`, `refused`, `limits`.
        latency: seconds an answer takes.
        slots: answers that are worked on at once; others wait.
        log: file that gets a line for every request before it is answered.
        answer: what to say.
        content: the body of an answer as it goes out, for servers that write it in their own way.
    """

    def __init__(
        self,
        fault: Fault = lambda _number, _body: None,
        *,
        latency: float = 0.0,
        slots: int = 1000,
        log: Path | None = None,
        answer: Callable[[Body], str] = reply_to,
        content: Callable[[Body, str], bytes] = completion,
    ) -> None:
        self.bodies: list[Body] = []
        self.heads: list[str] = []
        self.faults: dict[str, int] = {}
        self.most_at_once = 0
        self._fault, self._latency, self._log, self._answer, self._content = fault, latency, log, answer, content
        self._slots = asyncio.Semaphore(slots)
        self._busy = 0
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ScriptedTeacher":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head.lower())
                body = json.loads(await reader.readexactly(int(length[1]))) if length else {}
                self.heads.append(head.decode())
                if not await self._respond(body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _respond(self, body: Body, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; returns whether the connection stays open."""
        self.bodies.append(body)
        if self._log is not None:
            with self._log.open("a") as stream:
                stream.write(json.dumps(body, sort_keys=True) + "\n")
        self._busy += 1
        self.most_at_once = max(self.most_at_once, self._busy)
        try:
            async with self._slots:
                await asyncio.sleep(self._latency)
                return await self._play(self._fault(len(self.bodies), body), body, writer)
        finally:
            self._busy -= 1

    async def _play(self, fault: str | None, body: Body, writer: asyncio.StreamWriter) -> bool:
        if fault:
            self.faults[fault] = self.faults.get(fault, 0) + 1
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                await writer.drain()
        if fault == "slow":
            await asyncio.sleep(30)
        status, headers, content = _answer(fault, body, self._answer, self._content)
        lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()
        return True


def _answer(
    fault: str | None, body: Body, answer: Callable[[Body], str], completed: Callable[[Body, str], bytes]
) -> tuple[str, list[str], bytes]:
    error = json.dumps({"error": {"message": ERROR or f"scripted {fault}", "type": "scripted"}}).encode()
    if fault == "429":
        return "429 Too Many Requests", ["Retry-After: 0.2"], error
    if fault in ("500", "400", "401", "404"):
        return f"{fault} Scripted", [], error
    content = completed(body, "" if fault == "empty" else answer(body))
    if fault == "truncated":
        return "200 OK", [], content[: len(content) // 2]
    if fault == "limits":
        return "200 OK", ["x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 200ms"], content
    return "200 OK", [], content


@contextmanager
def serving(*arguments: Any, **options: Any) -> Iterator[ScriptedTeacher]:
    """A scripted teacher in a thread of its own; arguments are those of `ScriptedTeacher`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> ScriptedTeacher:
        return await ScriptedTeacher(*arguments, **options).__aenter__()

    teacher = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield teacher
    finally:
        asyncio.run_coroutine_threadsafe(teacher.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--log", type=Path)
    chosen = parser.parse_args()
    async with ScriptedTeacher(latency=chosen.latency, slots=chosen.slots, log=chosen.log) as teacher:
        print(teacher.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
