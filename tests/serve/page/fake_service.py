"""A service without a model, whose replies name the setting, served with the page on a free port."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI

from alignvec.data.schema import PreferenceRow
from alignvec.serve.errors import ForbiddenError, MissingKeyError, RateLimitedError, UnauthorizedError
from alignvec.serve.setting import Setting
from alignvec.steer.scale import Scale

LEVELS = {"avoidance": -1.0, "generic": 0.0, "expert": 1.0}
SCALES = {
    "medical": Scale("medical", LEVELS, (-1.0, 1.0)),
    "legal": Scale("legal", LEVELS, (-1.0, 1.0)),
    "own": Scale("own"),
}
REFERENCE = {"avoidance": -3.5, "generic": -2.5, "expert": -1.5}


@dataclass
class FakeService:
    """Says the setting and the number of messages, five words at a time; keeps what it was asked."""

    key: str | None = None
    pause: float = 0.0
    asked: list[Any] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    @property
    def engine(self) -> Any:
        """Scales, cards and preference."""
        cards = {name: SimpleNamespace(domain=name, name=name) for name in SCALES}
        return SimpleNamespace(scales=SCALES, cards=cards)

    async def preference(self, row: PreferenceRow, setting: Setting, rules: Any) -> dict[str, dict[str, float]]:
        """Reference values, moved by medical's knob."""
        moved = 0.25 * setting.applied.get("medical", 0.0)
        return {"now": {level: value + moved for level, value in REFERENCE.items()}, "base": REFERENCE}

    def rules(self, key: str | None) -> Any:
        """The key `slow` has used up its requests."""
        if key == "slow":
            raise RateLimitedError("the key has used up its 6 requests per minute; wait 10 s")
        if key is None and self.key is not None:
            raise MissingKeyError("no API key; send yours")
        if key == "clinic":
            return SimpleNamespace(name="clinic", max_tokens=None)
        if key != self.key:
            raise UnauthorizedError("no such API key; check the key")
        return SimpleNamespace(name="fake", max_tokens=None)

    def setting(self, rules: Any, asked: Sequence[Mapping[str, float | str]]) -> Setting:
        """Cuts to the usable range; `own` is not allowed below 0."""
        rest = {"medical": 1.0, "legal": -0.5} if rules.name == "clinic" else {}
        knobs = rest | {name: float(value) for part in asked for name, value in part.items()}
        if knobs.get("own", 0) < 0:
            raise ForbiddenError("knob 'own' may not be below 0 with this key; raise it to 0")
        ranges = {name: SCALES[name].usable for name in knobs}
        clamped = {n: r for n, r in ranges.items() if r and not r[0] <= knobs[n] <= r[1]}
        applied = {n: min(max(v, (ranges[n] or (v, v))[0]), (ranges[n] or (v, v))[1]) for n, v in knobs.items()}
        return Setting(requested=knobs, applied=applied, clamped=clamped)

    @property
    def options(self) -> Any:
        """The model's name."""
        return SimpleNamespace(model="demo")

    def refused(self, endpoint: str, key: str | None, error: Exception) -> None:
        """Keeps nothing."""

    def reply_tokens(self, prompt: Sequence[int], rules: Any) -> int:
        """Room for the reply."""
        return 32

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """As many tokens as messages."""
        return list(range(len(messages)))

    async def pieces(self, ask: Any, rules: Any) -> AsyncIterator[Any]:
        """A reply that names what was asked for."""
        self.asked.append(ask)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        knobs = " ".join(f"{name}={value:g}" for name, value in ask.setting.applied.items()) or "base"
        asked = json.loads(ask.text)[-1]["content"]
        try:
            words = f"<b>I</b> was asked {asked} under {knobs} with {ask.prompt_tokens} messages, and that is all."
            for word in words.split(" "):
                yield SimpleNamespace(choice=0, text=word + " ", steps=(), setting=ask.setting, finish=None)
                await asyncio.sleep(self.pause)
        finally:
            self.running -= 1


@contextmanager
def served(service: FakeService) -> Iterator[str]:
    """The page's address while it is served in a thread."""
    from alignvec.serve.page.page import mount

    app = mount(FastAPI(), service)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = server.force_exit = True
    thread.join(20)
