"""Every example of the page on the HTTP API is sent to a server, and its answer is what the page shows."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from alignvec.serve.api.about_schema import AlignmentInfo, ModelList
from alignvec.serve.api.reply_schema import ChatChunk, ChatReply, CompletionReply
from alignvec.serve.policy.keys import key_hash
from alignvec.serve.policy.policy import Policy, load_policy
from alignvec.vectors.store import find_vectors, load_card
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import make_service, served

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "http.md"
SAID = {"content", "text", "created", "prompt_tokens", "completion_tokens", "total_tokens", "tokens", "token_logprobs"}
SAID |= {"top_logprobs", "text_offset"}
"""What depends on the model, and is compared by its type only."""
SHAPES = {"chat.completion": ChatReply, "chat.completion.chunk": ChatChunk, "text_completion": CompletionReply}


@dataclass(frozen=True)
class Message:
    """A request or an answer of the page."""

    start: str
    headers: dict[str, str]
    body: str


def message(text: str) -> Message:
    head, _, body = text.strip().partition("\n\n")
    start, *headers = head.splitlines()
    return Message(start, dict(line.split(": ", 1) for line in headers), body)


def examples() -> list[tuple[Message, Message]]:
    blocks = [message(text) for text in re.findall(r"```http\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)]
    return list(zip(blocks[::2], blocks[1::2], strict=True))


def assert_shown(shown: Any, real: Any, where: str = "") -> None:
    """What the page shows is in the answer: keys may be left out, and so may what follows after "...".."""
    if isinstance(shown, dict):
        assert set(shown) <= set(real), where
        for name, value in shown.items():
            assert_shown(value, real[name], f"{where}.{name}")
    elif isinstance(shown, list) and where.rpartition(".")[2] not in SAID:
        cut = shown[-1:] == ["..."]
        assert len(shown) - cut < len(real) if cut else len(shown) == len(real), where
        for number, value in enumerate(shown[: len(shown) - cut]):
            assert_shown(value, real[number], f"{where}[{number}]")
    elif where.rpartition(".")[2] in SAID or (where.endswith(".id") and str(shown).startswith(("chatcmpl-", "cmpl-"))):
        assert type(shown) is type(real), where
    else:
        assert shown == real, where


@pytest.fixture(scope="module")
def addresses(tiny_folder: Path, make_vector: Any) -> Iterator[dict[bool, str]]:
    """A server without a policy and one with the example policy, whose keys are their names; shipped cards."""
    from alignvec import models

    cards = {name: load_card(folder) for name, folder in sorted(find_vectors(ROOT / "vectors").items())}
    vectors = [replace(make_vector(name), card=card) for name, card in cards.items()]
    read = load_policy(ROOT / "recipes" / "policies" / "example.yaml")
    keys = [key.model_copy(update={"hash": key_hash(key.name)}) for key in read.keys]
    engine = ScriptedEngine(models.load(str(tiny_folder), device="cpu"), vectors, "Healthy sleep " * 9)
    with (
        served(make_service(engine)) as free,
        served(make_service(engine, Policy("example", keys, read.anonymous))) as held,
    ):
        yield {False: free, True: held}


@pytest.mark.parametrize("number", range(len(examples())))
def test_an_example_is_answered_as_it_is_shown(addresses: dict[bool, str], number: int) -> None:
    request, answer = examples()[number]
    method, path = request.start.split()
    address = addresses["Authorization" in request.headers]
    sent_as = {"Content-Type": "application/json"} if request.body else {}
    real = httpx2.request(method, address + path, headers=request.headers | sent_as, content=request.body or None)
    assert f"HTTP/1.1 {real.status_code}" == answer.start, real.text
    for name, value in answer.headers.items():
        assert real.headers[name] == value
    if "text/event-stream" in real.headers["content-type"]:
        shown, sent = (text.strip().split("\n\n") for text in (answer.body, real.text))
        assert len(shown) == len(sent) and shown[-1] == sent[-1] == "data: [DONE]"
        events = [(json.loads(a[6:]), json.loads(b[6:])) for a, b in zip(shown[:-1], sent[:-1], strict=True)]
    else:
        events = [(json.loads(answer.body), real.json())]
    for said, told in events:
        assert_shown(said, told)
        if shape := SHAPES.get(told.get("object")):
            shape.model_validate(told)


@pytest.mark.parametrize("keyed", [False, True], ids=["open", "policy"])
def test_what_can_be_asked_for_is_told_in_the_documented_shape(addresses: dict[bool, str], keyed: bool) -> None:
    headers = {"Authorization": "Bearer operator"} if keyed else {}
    told = httpx2.get(f"{addresses[keyed]}/v1/alignment", headers=headers).json()
    AlignmentInfo.model_validate(told)
    assert {one["name"] for one in told["data"]} == {"financial", "legal", "medical"}
    ModelList.model_validate(httpx2.get(f"{addresses[keyed]}/v1/models", headers=headers).json())


def test_logprobs_are_told_in_the_documented_shape(addresses: dict[bool, str]) -> None:
    hi = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "logprobs": True, "top_logprobs": 2, "n": 2}
    told = httpx2.post(f"{addresses[False]}/v1/chat/completions", json=hi).json()
    found = ChatReply.model_validate(told).choices
    assert len(found) == 2 and found[0].logprobs is not None and len(found[0].logprobs.content[0].top_logprobs) == 2
