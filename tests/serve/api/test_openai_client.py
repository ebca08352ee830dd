"""OpenAI's own client against a real server with a scripted engine."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from alignvec.serve.errors import OverloadedError, UnavailableError
from alignvec.serve.policy.audit import AuditLog
from alignvec.serve.service import Service
from alignvec.steer.solved import SolvedSetting
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import eventually, make_service, policy_of, served

TEXT = "Hello, wörld €!"
HI: list[Any] = [{"role": "user", "content": "hi"}]
POLICY = {
    "boss": {"admin": True},
    "public": {"vectors": {"medical": {"max": 0.0}}, "max_tokens": 20},
    "rare": {"requests_per_minute": 1},
    "usual": {"vectors": {"medical": {"default": 0.25}, "legal": {}}},
}


@pytest.fixture
def engine(tiny: Any, make_vector: Any) -> ScriptedEngine:
    return ScriptedEngine(tiny, [make_vector("medical"), make_vector("legal", seed=1)], TEXT)


@pytest.fixture
def service(engine: ScriptedEngine, tmp_path: Path) -> Service:
    return make_service(engine, policy_of(**POLICY), AuditLog(tmp_path / "audit.jsonl"))


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with served(service) as address:
        yield address


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="boss", max_retries=0)


def entries(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


def test_chat(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    got = client.chat.completions.create(
        model="demo", messages=HI, n=2, seed=5, temperature=0.5, top_p=0.9, max_tokens=50, user="me"
    )
    assert [(c.index, c.message.content, c.finish_reason) for c in got.choices] == [(i, TEXT, "stop") for i in (0, 1)]
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    tokenizer = engine.base.tokenizer
    length = len(tokenizer(prompt)["input_ids"])
    spoken = 2 * (len(TEXT.encode()) + 1)  # one token a byte, and the end of the turn
    assert got.usage is not None
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (
        length,
        spoken,
        length + spoken,
    )
    assert sorted(job.sampling.seed for job in engine.jobs) == [5, 6]
    sampling = engine.jobs[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.repetition_penalty) == (0.5, 0.9, 1.0)
    assert sampling.max_new_tokens == 50
    assert tokenizer.decode(list(engine.jobs[0].prompt)) == prompt


def test_stream(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=HI, stream=True, stream_options={"include_usage": True}, n=2
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 2 * (len(TEXT.encode()) + 1)
    for choice in (0, 1):
        parts = [c.choices[0] for c in chunks[:-1] if c.choices[0].index == choice]
        assert parts[0].delta.role == "assistant"
        assert "".join(p.delta.content or "" for p in parts) == TEXT
        assert [p.finish_reason for p in parts if p.finish_reason] == ["stop"]
    echoed = [i for i, c in enumerate(chunks) if "alignment" in (c.model_extra or {})]
    assert echoed == [0, len(chunks) - 2, len(chunks) - 1]


@pytest.mark.parametrize("stream", [False, True])
def test_stop_cuts_and_frees(client: openai.OpenAI, engine: ScriptedEngine, stream: bool) -> None:
    got: Any = client.chat.completions.create(model="demo", messages=HI, stop=["rld", "zzz"], stream=stream)
    if stream:
        got = list(got)
        text = "".join(c.choices[0].delta.content or "" for c in got)
        finish = got[-1].choices[0].finish_reason
    else:
        text, finish = got.choices[0].message.content, got.choices[0].finish_reason
    assert (text, finish) == ("Hello, wö", "stop")
    assert (engine.open, engine.left_early) == (0, 1)


def test_length(client: openai.OpenAI) -> None:
    got = client.chat.completions.create(model="demo", messages=HI, max_completion_tokens=5)
    assert (got.choices[0].message.content, got.choices[0].finish_reason) == ("Hello", "length")


def test_chat_logprobs(client: openai.OpenAI) -> None:
    got = client.chat.completions.create(model="demo", messages=HI, logprobs=True, top_logprobs=2)
    content = got.choices[0].logprobs.content  # type: ignore[union-attr]
    assert content is not None
    assert b"".join(bytes(c.bytes or []) for c in content) == TEXT.encode()
    assert (content[0].token, content[0].logprob) == ("H", -0.25)
    assert [len(c.top_logprobs) for c in content] == [2] * len(content)
    assert content[8].token == "bytes:\\xc3"  # half an ö


def test_completions(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    got = client.completions.create(model="demo", prompt=["one", "two"], logprobs=1, n=2, max_tokens=9)
    assert [(c.index, c.text, c.finish_reason) for c in got.choices] == [
        (i, "Hello, w\ufffd", "length") for i in range(4)
    ]
    logs = got.choices[3].logprobs
    assert logs is not None and logs.tokens is not None
    assert (logs.tokens[:2], logs.text_offset) == (["H", "e"], list(range(9)))
    assert [engine.base.tokenizer.decode(list(job.prompt)) for job in engine.jobs] == ["one", "one", "two", "two"]
    assert client.completions.create(model="demo", prompt=[72, 73]).choices[0].text == TEXT
    assert engine.jobs[-1].prompt == [72, 73]
    streamed = list(client.completions.create(model="demo", prompt="x", stream=True, stop=["llx"], logprobs=0))
    assert "".join(chunk.choices[0].text for chunk in streamed) == TEXT
    parts = [chunk.choices[0].logprobs for chunk in streamed]
    offsets = [offset for part in parts if part and part.text_offset for offset in part.text_offset]
    assert offsets[:8] == list(range(8)), "though the stop string held some of the text back"


def test_precedence_and_echo(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    raw = client.with_options(api_key="usual").chat.completions.with_raw_response.create(
        model="demo:medical=0.1,legal=0.1",
        messages=HI,
        extra_headers={"X-Alignment": "medical=0.2,legal=avoidance"},
        extra_body={"alignment": {"medical": "80%"}},
    )
    echo = raw.parse().model_extra["alignment"]  # type: ignore[index]
    assert echo["requested"] == {"medical": "80%", "legal": "avoidance"}
    assert echo["applied"] == engine.jobs[0].knobs == {"medical": 0.8, "legal": -1.0}
    assert raw.headers["x-alignment-applied"] == "medical=0.8,legal=-1"
    assert raw.headers["x-request-id"].startswith("req_")
    client.with_options(api_key="usual").chat.completions.create(model="demo", messages=HI)
    assert engine.jobs[1].knobs == {"medical": 0.25}
    headers = [("Authorization", "Bearer usual"), ("X-Alignment", "medical=0.1"), ("X-Alignment", "legal=0.2")]
    httpx2.post(f"{client.base_url}chat/completions", json={"model": "demo", "messages": HI}, headers=headers)
    assert engine.jobs[2].knobs == {"medical": 0.1, "legal": 0.2}


def test_errors_have_their_classes(client: openai.OpenAI, engine: ScriptedEngine, tmp_path: Path) -> None:
    def ask(key: str = "boss", model: str = "demo", **more: Any) -> None:
        client.with_options(api_key=key).chat.completions.create(model=model, messages=HI, **more)

    with pytest.raises(openai.AuthenticationError):
        ask("nobody")
    with pytest.raises(openai.PermissionDeniedError, match="medical"):
        ask("public", extra_body={"alignment": {"medical": 0.5}})
    with pytest.raises(openai.NotFoundError, match="gpt-4"):
        ask(model="gpt-4")
    with pytest.raises(openai.NotFoundError, match="medical"):
        ask(model="demo:medical")
    with pytest.raises(openai.BadRequestError, match="20") as long:
        ask("public", max_tokens=21)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "max_tokens")
    with pytest.raises(openai.BadRequestError, match="fit"):
        ask(max_tokens=5000)
    ask("rare")
    with pytest.raises(openai.RateLimitError) as limited:
        ask("rare")
    assert int(limited.value.response.headers["retry-after"]) >= 1
    engine.error = OverloadedError("full; come back", retry_after=3)
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as full:
            ask(stream=stream)
        assert full.value.response.headers["retry-after"] == "3"
    engine.error = RuntimeError("a secret prompt")
    with pytest.raises(openai.InternalServerError) as broken:
        ask()
    assert "secret" not in broken.value.message and broken.value.status_code == 500
    found = entries(tmp_path)
    assert [entry["model"] for entry in found[:3]] == ["", "demo", "gpt-4"]
    assert found[1]["alignment"]["requested"] == {"medical": 0.5} and found[1]["alignment"]["applied"] == {}
    told = [(entry["key"], entry["status"]) for entry in found]
    assert told == [
        (None, 401), ("public", 403), ("boss", 404), ("boss", 404), ("public", 400), ("boss", 400), ("rare", 200),
        ("rare", 429), ("boss", 429), ("boss", 429), ("boss", 500),
    ]  # fmt: skip
    assert "nobody" not in (tmp_path / "audit.jsonl").read_text()


def test_several_prompts_are_admitted_together_or_not_at_all(
    client: openai.OpenAI, engine: ScriptedEngine, tmp_path: Path
) -> None:
    before = datetime.now(UTC)
    client.completions.create(model="demo", prompt=["one", "two", "three"], n=2, max_tokens=4)
    with pytest.raises(openai.BadRequestError, match="fit"):
        client.completions.create(model="demo", prompt=["a", "b " * 200], max_tokens=100)
    answered, refused = entries(tmp_path)
    assert (answered["prompt_tokens"], answered["completion_tokens"]) == (11, 24)
    assert answered["finish"] == ["length"] * 6
    assert refused["status"] == 400 and len(engine.jobs) == 6
    ended = datetime.fromisoformat(answered["time"])
    assert answered["seconds"] > 0 and (ended - before).total_seconds() + 0.001 >= answered["seconds"]


def test_an_error_in_a_stream_reaches_the_client(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    engine.error, engine.fail_after = UnavailableError("the batch failed; try again"), 5
    got = ""
    with pytest.raises(openai.APIError, match="the batch failed"):
        for chunk in client.chat.completions.create(model="demo", messages=HI, stream=True):
            got += chunk.choices[0].delta.content or ""
    assert got == "Hello"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_rows(
    service: Service, engine: ScriptedEngine, url: str, tmp_path: Path, stream: bool
) -> None:
    async def leave() -> None:
        engine.wait, engine.wait_after = asyncio.Event(), 3
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="boss", max_retries=0)
        call = asyncio.create_task(client.chat.completions.create(model="demo", messages=HI, n=2, stream=stream))
        if stream:
            chunks = await call
            await anext(chunks)
            assert engine.open == 2
            await chunks.close()
        else:
            while engine.open < 2:
                await asyncio.sleep(0.01)
            call.cancel()
        await client.close()

    asyncio.run(leave())
    eventually(lambda: engine.left_early == 2 and engine.open == 0 and service.active == 0, "rows are still taken")
    assert [entry["status"] for entry in entries(tmp_path)] == [499]


def test_time_is_up(engine: ScriptedEngine) -> None:
    engine.wait, engine.wait_after = asyncio.Event(), 3
    with served(make_service(engine, timeout=0.3)) as url:
        answer = httpx2.post(f"{url}/v1/chat/completions", json={"model": "demo", "messages": HI}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert (engine.open, engine.left_early) == (0, len(engine.jobs))


def test_models_and_alignment(client: openai.OpenAI, url: str) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["demo", "demo:medical=avoidance"] and len(names) == 7
    assert client.models.retrieve("demo:medical=0.3").id == "demo:medical=0.3"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("demo:cooking=1")
    told = httpx2.get(f"{url}/v1/alignment", headers={"Authorization": "Bearer public"}).json()
    assert [vector["name"] for vector in told["data"]] == ["medical", "legal"]
    assert told["data"][0]["levels"] == {"avoidance": -1.0, "generic": 0.0, "expert": 1.0}
    assert told["data"][0]["percent_curve"] == [[0.0, 0.0], [1.0, 1.0]]
    key = {"min": -10.0, "max": 0.0, "default": 0.0, "forced": False}
    assert [vector["key"] for vector in told["data"]] == [key, None]
    listed = httpx2.get(f"{url}/v1/models", headers={"Authorization": "Bearer public"}).json()["data"]
    assert [model["id"] for model in listed] == ["demo", "demo:medical=avoidance", "demo:medical=generic"]
    assert all(told["data"][0][field] is None for field in ("measured", "calibration", "spillover"))


def test_reload(engine: ScriptedEngine, make_vector: Any, tmp_path: Path) -> None:
    def read() -> Any:
        if isinstance(found[0], Exception):
            raise found[0]
        return list(found)

    from alignvec.errors import VectorError

    found: list[Any] = [make_vector("medical"), make_vector("legal")]
    goals = {"legal=expert": SolvedSetting(knobs={"legal": 1.0})}
    policy = policy_of(boss={"admin": True}, user={"vectors": {"medical": {}}})
    with served(make_service(engine, policy, AuditLog(tmp_path / "audit.jsonl"), vectors=read, goals=goals)) as url:

        def reload(key: str) -> httpx2.Response:
            return httpx2.post(f"{url}/v1/alignment/reload", headers={"Authorization": f"Bearer {key}"})

        assert reload("user").status_code == 403
        assert [vector["name"] for vector in reload("boss").json()["data"]] == ["medical", "legal"]
        found[:] = [make_vector("legal")]  # the policy names medical
        assert reload("boss").status_code == 400
        found[:] = [make_vector("medical")]  # a goal names legal
        refused = reload("boss")
        assert refused.status_code == 400 and "goal legal=expert" in refused.json()["error"]["message"]
        found[:] = [VectorError("damaged")]
        refused = reload("boss")
        assert refused.status_code == 400 and "vectors are as before: damaged" in refused.json()["error"]["message"]
        assert reload("nobody").status_code == 401
        assert list(engine.scales) == ["medical", "legal"]
    told = [(entry["endpoint"], entry["key"], entry["status"]) for entry in entries(tmp_path)]
    statuses = [("user", 403), ("boss", 200), *[("boss", 400)] * 3, (None, 401)]
    assert told == [("/v1/alignment/reload", *one) for one in statuses]


def test_health(service: Service, url: str, client: openai.OpenAI, engine: ScriptedEngine) -> None:
    client.chat.completions.create(model="demo", messages=HI, extra_body={"alignment": {"medical": 99}})
    counted = httpx2.get(f"{url}/metrics").text
    assert 'alignvec_replies_total{endpoint="/v1/chat/completions",status="200"} 1.0' in counted
    assert f'alignvec_tokens_total{{direction="out"}} {len(TEXT.encode()) + 1}.0' in counted
    assert 'alignvec_clamped_knobs_total{vector="medical"} 1.0' in counted
    assert httpx2.get(f"{url}/ready").status_code == httpx2.get(f"{url}/health").status_code == 200
    engine.alive = False
    assert httpx2.get(f"{url}/ready").json()["error"]["code"] == "unavailable"
    service.draining, engine.alive = True, True
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="demo", messages=HI)
    assert refused.value.status_code == 503
    assert httpx2.get(f"{url}/health").status_code == 200
