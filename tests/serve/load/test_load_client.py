"""One request on a clock of its own: times are exact, and every end is an outcome."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from alignvec.errors import KnobError
from alignvec.serve.load.client import ask, open_client
from alignvec.serve.load.outcome import Outcome, Probe, chat_probe, parse_setting
from tests.serve.load.scripted_server import event, scripted_server, text_of


class Paced(httpx2.AsyncByteStream):
    """Events that come after so many seconds each, on a clock that stands still otherwise."""

    def __init__(self, events: list[tuple[float, str]]) -> None:
        self.events, self.now = events, 100.0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for wait, text in self.events:
            self.now += wait
            yield text.encode()


def follow(events: list[tuple[float, str]], *, due: float = 100.0) -> Outcome:
    stream = Paced(events)

    async def run() -> Outcome:
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=stream))
        async with httpx2.AsyncClient(transport=transport, base_url="http://x/v1") as client:
            return await ask(client, Probe({}), due=due, patience=60, clock=lambda: stream.now)

    return asyncio.run(run())


def send(probe: Probe, *, patience: float = 60.0) -> Outcome:
    async def run(url: str) -> Outcome:
        async with open_client(url) as client:
            return await ask(client, probe, due=asyncio.get_running_loop().time(), patience=patience)

    with scripted_server() as (url, _):
        return asyncio.run(run(url))


def chat(prompt: str, **options: float) -> Probe:
    return chat_probe(prompt, model="m", max_tokens=4, nonce="n-7", **options)  # type: ignore[arg-type]


def test_times_are_those_of_the_pieces_with_text() -> None:
    found = follow(
        [
            (0.5, event(delta={"role": "assistant"})),
            (1.5, event(delta={"content": "a"})),
            (0.25, event(delta={"content": "b"})),
            (0.75, event(delta={"content": "c"})),
            (0.0, event(finish_reason="stop")),
            (0.5, "data: [DONE]\n\n"),
        ]
    )
    assert (found.kind, found.text, found.finish, found.tokens) == ("answered", "abc", "stop", 3)
    assert (found.lag, found.first, found.gaps, found.seconds) == (0.0, 2.0, (0.25, 0.75), 3.5)


def test_a_late_client_does_not_hide_the_wait() -> None:
    found = follow([(1.0, event(delta={"content": "a"})), (0.0, event(finish_reason="stop"))], due=97.0)
    assert (found.lag, found.first, found.seconds) == (3.0, 4.0, 4.0)


def test_an_event_cut_in_two_is_one_piece_when_it_is_whole() -> None:
    whole = event(delta={"content": "ab"})
    found = follow([(1.0, whole[:20]), (2.0, whole[20:]), (0.0, event(finish_reason="stop"))])
    assert (found.text, found.first, found.gaps) == ("ab", 3.0, ())


def test_the_servers_count_of_tokens_is_used() -> None:
    found = send(chat("hello"))
    assert (found.kind, found.status, found.tokens, len(found.gaps)) == ("answered", 200, 5, 2)
    assert (found.text, found.echoed, found.finish) == ("hello {}", "n-7", "length")


@pytest.mark.parametrize(
    ("prompt", "kind", "status", "error"),
    [
        ("refuse", "refused", 429, "the queue is full"),
        ("error", "failed", 200, "out of memory"),
        ("nonsense", "failed", 200, "not an event of a chat completion: '<html>'"),
        ("cut", "cut", 200, None),
        ("reset", "cut", 200, "RemoteProtocolError"),
    ],
)
def test_every_end_is_an_outcome(prompt: str, kind: str, status: int, error: str | None) -> None:
    found = send(chat(prompt))
    assert (found.kind, found.status) == (kind, status)
    assert (found.error or "").startswith(error or "") and (error is None) == (found.error is None)
    assert found.retry_after == ("3" if status == 429 else None)


def test_nobody_listening_is_an_outcome() -> None:
    async def run() -> Outcome:
        async with open_client(url) as client:
            return await ask(client, chat("hello"), due=0.0, patience=60)

    with scripted_server() as (url, _):
        pass
    found = asyncio.run(run())
    assert (found.kind, found.status, found.first, found.tokens) == ("unreachable", None, None, 0)
    assert found.error


def test_leaving_and_losing_patience_are_told_apart() -> None:
    assert send(chat("never", leave_after=0.2)).kind == "left"
    assert send(chat("never"), patience=0.2).kind == "timed out"
    assert send(chat("never", leave_after=30.0), patience=0.2).kind == "timed out"


def test_bytes_are_sent_as_they_are() -> None:
    found = send(Probe(b"{no json"))
    assert (found.kind, found.status, found.error) == ("refused", 400, "the body is no JSON")


def test_a_probe_carries_its_knobs_as_written() -> None:
    probe = chat_probe("q", " medical = expert, legal=-0.5,financial=80% ", model="m", max_tokens=3, seed=4, nonce="n")
    assert isinstance(probe.body, dict)
    assert probe.body["alignment"] == {"medical": "expert", "legal": -0.5, "financial": "80%"}
    assert (probe.body["max_tokens"], probe.body["seed"], probe.body["user"]) == (3, 4, "n")
    assert json.loads(text_of(probe.body)[-1]) == probe.body["alignment"]


@pytest.mark.parametrize("text", ["medical", "=1", "medical=", "medical=1,", "medical=1,medical=2"])
def test_settings_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(KnobError, match="knob '"):
        parse_setting(text)
