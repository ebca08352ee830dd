"""What the middleware refuses before vLLM sees it."""

from pathlib import Path
from typing import Any

import pytest

from alignvec.engines.vllm.plan import PLAN
from alignvec.errors import ConfigError
from alignvec.serve.vllm.middleware import AlignmentMiddleware
from tests.engines.conftest import MakePlan
from tests.engines.fake_vllm import FakeVllm, Start, behind_middleware, chat


@pytest.fixture
def start(plan_for: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return behind_middleware(plan_for, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (chat(alignment={"dental": 1}), 400, "no vector named 'dental'"),
        (chat(alignment={"medical": "inf"}), 400, "not a finite number"),
        (chat(alignment=[1]), 400, 'such as {"medical": 0.5}'),
        (chat(alignment={"medical": [1]}), 400, 'such as {"medical": 0.5}'),
        (chat(alignment={"medical": True}), 400, 'such as {"medical": 0.5}'),
        (chat(model="other"), 404, "no model named 'other'"),
        (chat(model="alignvec"), 404, "no model named 'alignvec'"),
        (chat(model="demo:medical=1,medical=0"), 400, "'medical' comes twice in model"),
        (chat(vllm_xargs={"alignvec": "medical=9"}), 400, "send knobs in alignment"),
        (chat(n=17), 400, "more than 16 replies"),
        (chat(alignment={"medical": 1}, use_beam_search=True), 400, "beam search"),
        ([1], 400, "no JSON object"),
    ],
    ids=[
        "name",
        "infinite",
        "list",
        "nested",
        "boolean",
        "model",
        "stack",
        "twice",
        "xargs",
        "choices",
        "beams",
        "array",
    ],
)
def test_what_is_wrong_is_told_and_never_reaches_vllm(start: Start, body: Any, status: int, says: str) -> None:
    app, ask = start("gate")
    reply = ask(body=body)
    assert (reply.status_code, app.bodies) == (status, []) and says in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/responses", "/inference/v1/generate", "/tokenize"])
def test_what_would_pass_the_policy_by_is_not_there(start: Start, path: str) -> None:
    app, ask = start("adapters")
    assert ask(path, {"model": "demo"}).status_code == 404 and app.paths == []


def test_a_setting_of_too_much_rank_is_refused(start: Start) -> None:
    app, ask = start("adapters", rank=1)
    reply = ask(body=chat(alignment={"medical": 1, "legal": 1}))
    assert reply.status_code == 400 and "needs rank 5" in reply.json()["error"]["message"] and app.bodies == []


@pytest.mark.parametrize(
    "field", [{"n": "2"}, {"n": 2.0}, {"n": True}, {"max_tokens": "9"}, {"max_completion_tokens": 9.5}], ids=str
)
def test_numbers_are_not_left_to_be_read_twice(start: Start, field: dict[str, Any]) -> None:
    app, ask = start("gate")
    assert ask(body=chat(**field)).status_code == 400 and app.bodies == []


def test_prompts_of_a_list_count_one_by_one_and_tokens_do_not(start: Start) -> None:
    app, ask = start("gate")
    assert ask("/v1/completions", {"model": "demo", "prompt": list(range(40))}).is_success
    assert ask("/v1/completions", {"model": "demo", "prompt": ["a"] * 9, "n": 2}).status_code == 400
    assert len(app.bodies) == 1


def test_a_part_cannot_name_an_adapter(start: Start) -> None:
    app, ask = start("adapters")
    part = {"type": "demo:medical=1", "uuid": "a", "image_url": {"url": "x"}}
    assert ask(body=chat(messages=[{"role": "user", "content": [part]}])).status_code == 400 and app.bodies == []


def test_without_a_plan_vllm_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLAN, raising=False)
    with pytest.raises(ConfigError, match="alignvec serve --engine vllm"):
        AlignmentMiddleware(FakeVllm())
