"""Knobs on a real vLLM say what they say on our own engine: greedy, float32, the demo model and its shipped vectors."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from openai import OpenAI

from alignvec import models
from alignvec.logprobs import encode_prompt
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.store import load_vector
from tests.real_vllm.servers import VECTORS, post, vllm_server

QUERIES = [
    "Can I take ibuprofen with aspirin?",
    "Can my landlord keep my deposit?",
    "Should I pay off debt or invest?",
    "What causes migraine?",
]
LAMBDAS = [
    (0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (0.5, -0.3, 0), (1, 1, 1),
    (-1, -1, -1), (0.25, 0, 0.75), (0, 0.8, -0.8), (0.6, 0.6, 0), (-0.5, 0.5, -0.5), (0.9, 0, 0), (0, 0, 0.4),
]  # fmt: skip
NAMES = ("medical", "legal", "financial")
SETTINGS = [dict(zip(NAMES, map(float, values), strict=True)) for values in LAMBDAS]
TOKENS = 40
LONG = "You are an assistant of a large company that answers questions of its customers. " * 12
"""A system prompt of several blocks of the prefix cache."""


@pytest.fixture(scope="module")
def own() -> KnobbedModel:
    """Our own engine."""
    return KnobbedModel(
        models.load("demo", dtype="float32"),
        [load_vector(VECTORS / name) for name in ("medical", "legal", "financial")],
    )


@pytest.fixture(scope="module", params=["gate", "adapters"])
def url(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of each way; few adapters are kept, so that they come and go."""
    folder = tmp_path_factory.mktemp("vllm")
    # long prompts come in pieces then, beside tokens of others
    more = ["--keep", "4"] if request.param == "adapters" else ["--", "--max-num-batched-tokens", "128"]
    with vllm_server(folder / "log", "--knobs-by", request.param, *more) as address:
        yield address


def body(chat: Sequence[dict[str, str]], knobs: Knobs, **more: Any) -> dict[str, Any]:
    return {
        "model": "demo",
        "messages": list(chat),
        "alignment": dict(knobs),
        "temperature": 0,
        "max_tokens": TOKENS,
    } | more


def replies(url: str, chats: Sequence[Any], settings: Sequence[Knobs], **more: Any) -> list[str]:
    """All at once."""
    with ThreadPoolExecutor(len(chats)) as pool:
        found = list(pool.map(lambda pair: post(url, body(*pair, **more)), zip(chats, settings, strict=True)))
    assert [status for status, _ in found] == [200] * len(chats), found
    for (_, reply), knobs in zip(found, settings, strict=True):
        assert {n: v for n, v in reply["alignment"]["applied"].items() if v} == {n: v for n, v in knobs.items() if v}
    return [reply["choices"][0]["message"]["content"].strip() for _, reply in found]


def test_sixteen_settings_at_once_say_what_our_own_engine_says(url: str, own: KnobbedModel) -> None:
    chats = [[{"role": "user", "content": QUERIES[i % 4]}] for i in range(16)]
    expected = own.continue_chats(chats, SETTINGS, GREEDY.model_copy(update={"max_new_tokens": TOKENS}))
    assert len(set(expected)) >= 12  # the settings differ
    assert replies(url, chats, SETTINGS) == expected
    assert replies(url, chats[::-1], SETTINGS[::-1]) == expected[::-1]  # again, now from the prefix cache


def test_a_cached_prefix_is_never_another_settings(url: str, own: KnobbedModel) -> None:
    chat = [{"role": "system", "content": LONG}, {"role": "user", "content": QUERIES[0]}]
    settings: list[Knobs] = [{"medical": 1.0}, {"medical": -1.0}, {}, {"medical": 1.0}, {"medical": -1.0}]
    sampling = GREEDY.model_copy(update={"max_new_tokens": 24})
    expected = own.continue_chats([chat] * 5, settings, sampling)
    found = [replies(url, [chat], [knobs], max_tokens=24)[0] for knobs in settings]  # one after the other
    assert found == expected and len(set(found)) == 3


def test_long_prompts_in_pieces_and_several_replies_beside_short_ones(url: str, own: KnobbedModel) -> None:
    long = [{"role": "system", "content": LONG}, {"role": "user", "content": QUERIES[1]}]
    chats = [long if i % 2 else [{"role": "user", "content": QUERIES[i % 4]}] for i in range(8)]
    settings = SETTINGS[1:9]
    sampling = GREEDY.model_copy(update={"max_new_tokens": 16})
    expected = own.continue_chats(chats, settings, sampling)
    assert replies(url, chats, settings, max_tokens=16) == expected
    # vLLM gives one greedy reply only; the likeliest token always is greedy too
    _, twice = post(url, body(chats[1], settings[1], max_tokens=16, n=2, temperature=1, top_k=1))
    assert [choice["message"]["content"].strip() for choice in twice["choices"]] == [expected[1]] * 2


def test_the_logprobs_are_those_of_our_own_engine(url: str, own: KnobbedModel) -> None:
    chat = [{"role": "user", "content": QUERIES[3]}]
    ids = torch.tensor([encode_prompt(own.base.tokenizer, chat)])
    for knobs in (SETTINGS[1], SETTINGS[7], SETTINGS[9]):
        _, reply = post(url, body(chat, knobs, logprobs=True, top_logprobs=5))
        first = reply["choices"][0]["logprobs"]["content"][0]
        with torch.no_grad(), own.knobs(knobs) as model:
            expected = model(ids).logits[0, -1].log_softmax(-1).topk(5)
        assert [one["logprob"] for one in first["top_logprobs"]] == pytest.approx(expected.values.tolist(), abs=2e-3)


def test_wrong_requests_are_told_and_the_server_goes_on(url: str) -> None:
    chat = [{"role": "user", "content": QUERIES[0]}]
    for knobs, status in (({"dental": 1.0}, 400), ({"medical": "much"}, 400), ({"medical": 5.0}, 200)):
        found, reply = post(url, body(chat, knobs, max_tokens=2))
        assert found == status, reply
    assert reply["alignment"]["clamped"] == {"medical": [-1.0, 1.0]}
    assert post(url, body(chat, {}, model="demo:medical=x"))[0] == 400
    assert post(url, body(chat, {}, model="demo:"))[0] == 404
    assert post(url, {"lora_name": "a", "lora_path": "/"}, "/v1/load_lora_adapter")[0] == 404
    assert replies(url, [chat], [{"medical": 1.0}], max_tokens=2)


def test_the_openai_client_streams_and_is_told_the_knobs(url: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="EMPTY")
    assert "demo:medical=expert" in [model.id for model in client.models.list()]
    stream = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": QUERIES[0]}], temperature=0, max_tokens=8, stream=True,
        stream_options={"include_usage": True}, extra_body={"alignment": {"medical": "expert"}},
    )  # fmt: skip
    chunks = list(stream)
    assert chunks[0].model_extra and chunks[0].model_extra["alignment"]["applied"] == {"medical": 1.0}
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 8
    whole = client.chat.completions.create(
        model="demo:medical=expert", messages=[{"role": "user", "content": QUERIES[0]}], temperature=0, max_tokens=8
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text


def test_a_killed_server_starts_again_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = models.resolve("demo")
    monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "models").mkdir(parents=True)
    (tmp_path / "cache" / "models" / real.name).symlink_to(real)
    chat = [{"role": "user", "content": QUERIES[0]}]
    texts = []
    for _ in range(2):  # the first is killed with its adapters on disk
        with vllm_server(tmp_path / "log", "--knobs-by", "adapters") as address:
            texts.append(replies(address, [chat], [{"medical": 1.0}], max_tokens=8))
            kept = [path for path in (tmp_path / "cache" / "vllm").glob("adapters-*") if path.is_dir()]
            assert len(kept) == 1
    assert texts[0] == texts[1]
