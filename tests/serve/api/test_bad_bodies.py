"""Requests that nobody should send: each is refused in OpenAI's error shape."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from alignvec.serve.service import Service
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import make_service, served

CHAT = "/v1/chat/completions"
GOOD = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def url(tiny: Any, make_vector: Any) -> Iterator[str]:
    with served(make_service(ScriptedEngine(tiny, [make_vector("medical")]))) as address:
        yield address


def assert_refused(answer: httpx2.Response, status: int, *parts: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and len(error["message"]) < 1000
    for part in parts:
        assert part in error["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b'{"model": "demo", "temperature": NaN}', "JSON"),
        (b'{"model": "demo", "user": Infinity}', "JSON"),
        (b'{"model": "\xff\xfe"}', "JSON"),
        (b'{"model": "demo", "prompt": "\\ud800"}', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"a":' * 50_000, "JSON"),
    ],
    ids=range(9),
)
def test_unreadable(url: str, raw: bytes, part: str) -> None:
    for kind in ("application/json", "text/plain"):
        assert_refused(httpx2.post(url + CHAT, content=raw, headers={"content-type": kind}), 400, part)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n:"),
        ({"n": 17}, "n:"),
        ({"seed": 2**70}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty is not supported"),
        ({"tools": [{"type": "function"}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"tempratur": 1}, "tempratur"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "tool_calls is not supported"),
        ({"messages": [{"role": "user", "content": "x" * 1000}]}, "fit"),
        ({"alignment": "medical=1"}, "alignment"),
        ({"alignment": {"medical": {"a": 1}}}, "alignment"),
        ({"alignment": {"medical": "nan"}}, "medical"),
        ({"alignment": {"medical": "1e999"}}, "medical"),
        ({"alignment": {"cooking": 1}}, "cooking"),
        ({"alignment": {f"v{i}": 1 for i in range(10_000)}}, "knobs"),
        ({"stream_options": {"include_usage": True}}, "stream"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_fields(url: str, fields: dict[str, Any], part: str) -> None:
    assert_refused(httpx2.post(url + CHAT, json=GOOD | fields), 400, part)


@pytest.mark.parametrize("number", ["1e999", "1" * 4000, "1" * 5000, "-1e400"])
def test_numbers_beyond_floats(url: str, number: str) -> None:
    raw = json.dumps(GOOD)[:-1] + ', "alignment": {"medical": ' + number + "}}"
    assert_refused(httpx2.post(url + CHAT, content=raw, headers={"content-type": "application/json"}), 400)


def test_neutral_and_harmless_fields_pass(url: str) -> None:
    neutral = {"frequency_penalty": 0, "tools": [], "tool_choice": None, "response_format": {"type": "text"}}
    harmless = {"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"}
    back = [{"role": "assistant", "content": "yes", "refusal": None, "annotations": []}]
    parts = [{"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}]}]
    sent = GOOD | neutral | harmless | {"messages": [*parts, *back, *GOOD["messages"]], "temperature": 1e-300}
    answer = httpx2.post(url + CHAT, json=sent)
    assert answer.status_code == 200, answer.text


def test_large_bodies(url: str) -> None:
    assert_refused(httpx2.post(url + CHAT, content=b"x" * 1_000_001), 413, "1000000")

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    assert_refused(httpx2.post(url + CHAT, content=endless()), 413, "1000000")
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as line:
        line.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**15}\r\n\r\n".encode())
        assert b"413" in line.recv(100)  # without a byte of the body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/v1/alignment/reload", 405),
        ("GET", "/v1/models/gpt", 404),
        ("POST", "/v1/alignment/reload", 400),
    ],
)
def test_other_paths(url: str, method: str, path: str, status: int) -> None:
    assert_refused(httpx2.request(method, url + path), status)


@pytest.mark.parametrize("value", ["medical", "medical=1,medical=2", "=1", "cooking=1", "medical=\xff", "a" * 9000])
def test_wrong_headers(url: str, value: str) -> None:
    headers = {"X-Alignment": value.encode("latin-1")}
    assert_refused(httpx2.post(url + CHAT, json=GOOD, headers=headers), 400)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["Basic abc", "Bearer", "\xff"])
def test_wrong_authorization(url: str, value: str) -> None:
    headers = {"Authorization": value.encode("latin-1")}
    assert_refused(httpx2.post(url + CHAT, json=GOOD, headers=headers), 401)  # type: ignore[arg-type]


def test_tokens_outside_the_vocabulary(url: str) -> None:
    for prompt in ([10**6], [[1], [10**6]], [-1], [], [[]], ["a", 1], [True], [10**30]):
        assert_refused(httpx2.post(f"{url}/v1/completions", json={"model": "demo", "prompt": prompt}), 400, "prompt")


def test_what_fails_is_logged_without_its_message(
    tiny: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Service, messages: Any) -> list[int]:
        raise RuntimeError(str(messages))

    monkeypatch.setattr(Service, "chat_prompt", broken)
    with served(make_service(ScriptedEngine(tiny))) as url:
        private = GOOD | {"messages": [{"role": "user", "content": "my illness"}]}
        assert_refused(httpx2.post(url + CHAT, json=private, headers={"Authorization": "Bearer mine"}), 500)
    assert "RuntimeError" in caplog.text and "chat_prompt" in caplog.text
    assert "illness" not in caplog.text and "Bearer" not in caplog.text


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Host": ""}])
@pytest.mark.parametrize("path", ["/v1/alignment/reload", CHAT, "/"])
def test_without_a_policy_names_of_other_machines_are_refused(url: str, header: dict[str, str], path: str) -> None:
    assert_refused(httpx2.post(url + path, headers=header, json={}), 403, "--policy")


def test_bodies_of_the_page_are_limited_too(url: str) -> None:
    assert_refused(httpx2.post(f"{url}/gradio_api/queue/join", content=b"x" * 1_000_001), 413, "1000000")
