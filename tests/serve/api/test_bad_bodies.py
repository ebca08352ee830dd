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

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
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


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
def test_a_body_that_is_not_sent_as_json_is_told_how_to_send_it(url: str, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = httpx2.post(url + CHAT, content=json.dumps(GOOD).encode(), headers=headers)
    assert_refused(answer, 400, "add the header Content-Type: application/json")
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert httpx2.post(url + CHAT, content=json.dumps(GOOD).encode(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ('"alignment": {"medical": 1, "medical": -1}', "medical"),
        ('"alignment": {"medical": 1, "\\u006dedical": 1}', "medical"),
        ('"seed": 1, "model": "demo"', "model"),
        ('"stop": [{"a": {"b": 1, "b": 1}}]', "b"),
    ],
    ids=["knob", "escaped", "field", "deep"],
)
def test_a_name_that_comes_twice_in_an_object_is_refused(url: str, more: str, name: str) -> None:
    raw = json.dumps(GOOD)[:-1] + f", {more}}}"
    answer = httpx2.post(url + CHAT, content=raw, headers={"content-type": "application/json"})
    assert_refused(answer, 400, f"{name!r} comes twice in one object of the body; name it once")


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


@pytest.mark.parametrize(
    ("path", "fields", "param", "part"),
    [
        (CHAT, {"stop": ["a"] * 5}, "stop", "at most 4 items"),
        (CHAT, {"stop": ""}, "stop", "at least 1 character"),
        (CHAT, {"stop": ["a", ""]}, "stop.1", "at least 1 character"),
        (CHAT, {"alignment": {"goal": 1}}, "alignment", "goal must be the name of a solved goal"),
        (COMPLETIONS, {"prompt": []}, "prompt", "at least 1 item"),
        (COMPLETIONS, {"prompt": ["a"] * 5000}, "prompt", "at most 16 items"),
        (COMPLETIONS, {"prompt": ["a", 1]}, "prompt.1", "valid string"),
        (COMPLETIONS, {"prompt": [1] * 20 + [1.5]}, "prompt.20", "valid integer"),
        (COMPLETIONS, {"prompt": [[1], ["a"]]}, "prompt.1.0", "valid integer"),
        (COMPLETIONS, {"prompt": ""}, "prompt", "no tokens"),
        (COMPLETIONS, {"prompt": ["a", ""]}, "prompt", "no tokens"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_reason_is_that_of_the_branch_that_was_meant(
    url: str, path: str, fields: dict[str, Any], param: str, part: str
) -> None:
    base = GOOD if path == CHAT else {"model": "demo"}
    answer = httpx2.post(url + path, json=base | fields)
    assert_refused(answer, 400, part)
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, "invalid_request")


@pytest.mark.parametrize(
    ("knobs", "status", "code"),
    [
        ("medical=", 400, "invalid_request"),
        ("medical=1,medical=0", 400, "invalid_request"),
        ("medical=1,", 400, "invalid_request"),
        ("medical=1:legal=1", 400, "invalid_request"),
        ("medical=nan", 400, "invalid_request"),
        ("medical=exprt", 400, "invalid_request"),
        ("medical", 404, "model_not_found"),
        ("", 404, "model_not_found"),
    ],
)
def test_knobs_in_a_models_name_that_cannot_be_read_have_one_answer(
    url: str, knobs: str, status: int, code: str
) -> None:
    for answer in (
        httpx2.post(url + CHAT, json=GOOD | {"model": f"demo:{knobs}"}),
        httpx2.get(f"{url}/v1/models/demo:{knobs}"),
    ):
        assert_refused(answer, status)
        assert answer.json()["error"]["code"] == code


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


@pytest.mark.parametrize("page", [False, True], ids=["alone", "page"])
def test_what_the_api_does_not_have_is_refused_in_its_shape_beside_the_page_too(tiny: Any, page: bool) -> None:
    with served(make_service(ScriptedEngine(tiny), page=page)) as url:
        for path in ("/v1", "/v1/", "/v1/nothing"):
            answer = httpx2.get(url + path)
            assert_refused(answer, 404, "no such endpoint")
            assert answer.json()["error"]["code"] == "not_found"
        for method, path, allowed in (
            ("DELETE", "/health", "GET, HEAD"), ("POST", "/ready", "GET, HEAD"), ("PUT", "/metrics", "GET"),
            ("GET", CHAT, "POST"),
        ):  # fmt: skip
            answer = httpx2.request(method, url + path)
            assert_refused(answer, 405)
            assert answer.json()["error"]["code"] == "method_not_allowed" and answer.headers["allow"] == allowed
        for path in ("/health", "/ready"):
            answer = httpx2.head(url + path)
            assert (answer.status_code, answer.content) == (200, b"")


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
