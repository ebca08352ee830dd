"""Knobs on their way through the middleware: what vLLM is sent for them, and what the client is told."""

import json
from pathlib import Path

import pytest

from alignvec.engines.vllm import plugin
from tests.engines.conftest import MakePlan
from tests.engines.fake_vllm import Start, behind_middleware, chat


@pytest.fixture
def start(plan_for: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return behind_middleware(plan_for, tmp_path, monkeypatch)


def test_with_a_gate_knobs_go_as_text_and_come_back_told(start: Start) -> None:
    app, ask = start("gate")
    reply = ask(body=chat(model="demo:legal=-0.3", alignment={"medical": 0.512}), headers={"X-Alignment": "legal=1"})
    sent = app.bodies[-1]
    assert sent["model"] == "demo" and "alignment" not in sent
    assert sent["vllm_xargs"] == {"alignvec": "medical=0.512,legal=1"}
    assert reply.json()["alignment"]["applied"] == {"medical": 0.512, "legal": 1.0}
    assert reply.json()["model"] == "demo:legal=-0.3"
    assert reply.headers["X-Alignment-Applied"] == "medical=0.512,legal=1"
    assert int(reply.headers["content-length"]) == len(reply.content)


def test_with_adapters_knobs_are_a_models_name_and_rounded_ones_are_told(start: Start) -> None:
    app, ask = start("adapters", step=0.1)
    reply = ask(body=chat(alignment={"legal": -0.33, "medical": 0.512}))
    assert app.bodies[-1]["model"] == "demo:medical=0.5,legal=-0.3" and "vllm_xargs" not in app.bodies[-1]
    assert reply.json()["alignment"]["applied"] == {"medical": 0.5, "legal": -0.3}
    assert reply.json()["alignment"]["requested"] == {"legal": -0.33, "medical": 0.512}


@pytest.mark.parametrize("way", ["gate", "adapters"])
def test_the_base_is_asked_for_as_the_base(start: Start, way: str) -> None:
    app, ask = start(way)
    assert ask(body=chat(alignment={"medical": 0.0})).status_code == 200
    assert app.bodies[-1] == chat()


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_tells_the_knobs_first_and_last_and_the_usage_only_if_asked(start: Start, usage: bool) -> None:
    _, ask = start("gate")
    options = {"stream_options": {"include_usage": True}} if usage else {}
    reply = ask(body=chat(stream=True, alignment={"medical": 1}, **options))
    events = [event.removeprefix("data: ") for event in reply.text.strip().split("\n\n")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert len(chunks) == (3 if usage else 2)
    assert all("alignment" in chunk for chunk in chunks)
    assert ["usage" in chunk for chunk in chunks] == ([False, False, True] if usage else [False, False])
    assert {chunk["model"] for chunk in chunks} == {"demo"}


def test_vllm_forgets_the_names_of_adapters_that_are_gone(start: Start) -> None:
    app, ask = start("adapters", settings=2)
    names = [f"demo:legal={value:g}" for value in (0.1, 0.2, 0.3, 0.4)]
    for name in names:
        plugin.COMPOSERS["adapters"].folder(name)  # as the resolver does
        assert ask(body=chat(model=name)).is_success
        assert ask(body=chat(model=names[0])).is_success  # always in use
    assert sorted(app.models.lora_requests) == [names[0], names[3]]
    assert len(list(plugin.COMPOSERS["adapters"]._folder.iterdir())) == 2


def test_models_and_vectors_are_told_as_by_our_own_server(start: Start) -> None:
    app, ask = start("gate")
    assert ask("/v1/models", method="GET").json()["data"][0]["id"] == "demo"
    told = ask("/v1/alignment", method="GET").json()
    assert [one["name"] for one in told["data"]] == ["medical", "legal"] and told["router"] is None
    assert ask("/v1/models/demo:medical=0.5", method="GET").json()["id"] == "demo:medical=0.5"
    assert ask("/v1/models/demo:dental=0.5", method="GET").status_code == 404
    assert ask("/v1/models/demo:medical=nan", method="GET").status_code == 400
    assert app.paths == []


def test_a_client_that_names_its_request_finds_it_in_the_reply(start: Start) -> None:
    _, ask = start("gate")
    assert ask(body=chat(), headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert ask(body=chat(model="x"), headers={"X-Request-Id": "mine-2"}).headers["x-request-id"] == "mine-2"
