"""The exported knobs in llama.cpp's own server: they turn, agree with `KnobbedModel`, and survive the prompt cache."""

import os
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from llama_servers import PYTHON, Completion, LlamaServer, dequantised, llama_server

from alignvec import demo_model, models
from alignvec.cache import cache_dir
from alignvec.engines.llamacpp.adapters import export_knobs
from alignvec.engines.llamacpp.manifest import Manifest
from alignvec.engines.llamacpp.request import check_server, request_fields
from alignvec.errors import ConfigError
from alignvec.logprobs import encode_prompt
from alignvec.steer.knobs import parse_knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.store import load_vector

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no interpreter with xllamacpp"),
]
DOMAINS = ("medical", "legal", "financial")
VECTORS = Path(__file__).resolve().parents[3] / "vectors"
SETTINGS = (
    "",
    "medical=1",
    "medical=-1",
    "medical=0.5",
    "legal=expert,medical=-0.3",
    "medical=expert,legal=-1,financial=0.7",
)
EXACT = {"cache_type_k": 0, "cache_type_v": 0, "flash_attn_type": 0}
"""Keys and values in float32 (llama.cpp's default is float16), and attention that does not round them."""
FLOAT32 = 5e-4
"""Largest difference of log-probabilities with `EXACT`, in nats: sums in another order (1.3e-4 was measured)."""
QUESTION = "My doctor gave me warfarin and I would like to take ibuprofen for my knee. What should I know about both?"
OTHER = "Tell me a story about a fox who lives in the city, and how it finds food at night."


@pytest.fixture(scope="module")
def knobbed() -> KnobbedModel:
    return KnobbedModel(models.load("demo", device="cpu"), [load_vector(VECTORS / domain) for domain in DOMAINS])


@pytest.fixture(scope="module")
def quantised() -> Path:
    return demo_model._ensure_gguf(cache_dir() / "downloads")


@pytest.fixture(scope="module")
def float32(quantised: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dequantised(quantised, tmp_path_factory.mktemp("base") / "demo-f32.gguf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported") / "knobs"


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return export_knobs([load_vector(VECTORS / domain) for domain in DOMAINS], "demo", folder)


@pytest.fixture(scope="module")
def files(manifest: Manifest, folder: Path) -> list[Path]:
    return [folder / adapter.file for adapter in manifest.adapters]


@pytest.fixture(scope="module")
def server(float32: Path, files: list[Path]) -> Iterator[LlamaServer]:
    with llama_server(float32, files, **EXACT) as running:
        yield running


def chat(knobbed: KnobbedModel, question: str) -> list[int]:
    return encode_prompt(knobbed.base.tokenizer, [{"role": "user", "content": question}])


def first_token(knobbed: KnobbedModel, prompt: list[int], setting: str, found: Completion) -> torch.Tensor:
    """`KnobbedModel`'s log-probabilities of the tokens that the server named."""
    with torch.no_grad(), knobbed.knobs(parse_knobs(setting)) as model:
        logits = model(input_ids=torch.tensor([prompt]), logits_to_keep=1).logits[0, -1]
    normal: torch.Tensor = logits.log_softmax(dim=-1)
    return normal[list(found.first)]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda text: text or "base")
def test_first_token_agrees(knobbed: KnobbedModel, manifest: Manifest, server: LlamaServer, setting: str) -> None:
    prompt = chat(knobbed, QUESTION)
    found = server.complete(prompt, request_fields(manifest, setting))
    expected = first_token(knobbed, prompt, setting.replace("expert", "1"), found)
    torch.testing.assert_close(torch.tensor(list(found.first.values())), expected, rtol=0, atol=FLOAT32)


def test_every_knob_and_side_changes_the_logits(knobbed: KnobbedModel, manifest: Manifest, server: LlamaServer) -> None:
    prompt = chat(knobbed, QUESTION)
    settings = ["", *(f"{name}={value}" for name in DOMAINS for value in ("0.5", "1", "-1"))]
    found = [server.complete(prompt, request_fields(manifest, setting)).first for setting in settings]
    for i, one in enumerate(found):
        for other in found[:i]:
            both = one.keys() & other.keys()
            assert not both or max(abs(one[token] - other[token]) for token in both) > 20 * FLOAT32


@pytest.mark.parametrize("setting", ["", "medical=1", "medical=-1,legal=0.5"], ids=lambda text: text or "base")
def test_greedy_text_is_the_same(knobbed: KnobbedModel, manifest: Manifest, server: LlamaServer, setting: str) -> None:
    expected = knobbed.generate([QUESTION], parse_knobs(setting), GREEDY.model_copy(update={"max_new_tokens": 16}))
    found = server.complete(chat(knobbed, QUESTION), request_fields(manifest, setting), tokens=16)
    assert found.text.strip() == expected[0]


def test_the_openai_client_passes_the_fields_on(knobbed: KnobbedModel, manifest: Manifest, server: LlamaServer) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    messages = [{"role": "user", "content": QUESTION}]
    replies = []
    for setting in ("medical=1", "medical=-1"):
        fields = request_fields(manifest, setting)
        reply = client.chat.completions.create(
            model="demo",
            messages=messages,  # type: ignore[arg-type]
            max_tokens=16,
            temperature=0,
            extra_body=fields,
        )
        replies.append(reply.choices[0].message.content)
        assert reply.usage is not None
        assert reply.usage.prompt_tokens == len(chat(knobbed, QUESTION))
        assert replies[-1] == server.complete(chat(knobbed, QUESTION), fields, tokens=16).text
    assert replies[0] != replies[1]


def test_quantised_kernels_agree_more_loosely(
    knobbed: KnobbedModel, manifest: Manifest, quantised: Path, files: list[Path]
) -> None:
    """The shipped file has the same weights, but llama.cpp rounds activations to 8 bits for them."""
    prompt = chat(knobbed, QUESTION)
    with llama_server(quantised, files) as running:
        for setting in ("", "medical=1", "medical=-1"):
            found = running.complete(prompt, request_fields(manifest, setting))
            off = torch.tensor(list(found.first.values())) - first_token(knobbed, prompt, setting, found)
            assert off.abs().max() < 0.5
            assert off.abs().mean() < 0.2


def fresh(model: Path, files: list[Path], manifest: Manifest, prompt: list[int], setting: str) -> Completion:
    with llama_server(model, files, **EXACT) as running:
        return running.complete(prompt, request_fields(manifest, setting), tokens=12)


def distance(one: Completion, other: Completion) -> float:
    return max(abs(one.first[token] - other.first[token]) for token in one.first.keys() & other.first.keys())


def test_our_fields_survive_the_prompt_cache(
    knobbed: KnobbedModel, manifest: Manifest, float32: Path, files: list[Path]
) -> None:
    """A prompt comes back at another setting after another prompt had its slot; see llama.cpp issues 26207, 30129."""
    prompt, between = chat(knobbed, QUESTION), chat(knobbed, OTHER)
    expected = {setting: fresh(float32, files, manifest, prompt, setting) for setting in ("medical=1", "medical=-1")}
    with llama_server(float32, files, **EXACT) as running:
        for setting, other in (("medical=1", "medical=-1"), ("medical=-1", "medical=1")):
            for fields in (request_fields(manifest, other, reuse_prompt=True), {}):  # whatever other clients send
                running.complete(prompt, request_fields(manifest, other, reuse_prompt=True))
                running.complete(between, request_fields(manifest, setting, reuse_prompt=True))
                running.complete(prompt, fields)
                found = running.complete(prompt, request_fields(manifest, setting), tokens=12)
                assert (found.text, found.reused) == (expected[setting].text, 0)
                assert distance(found, expected[setting]) < FLOAT32


@pytest.mark.parametrize("forgets", ["cache_prompt", "lora"])
def test_without_them_replies_are_mixed_up(
    knobbed: KnobbedModel, manifest: Manifest, float32: Path, files: list[Path], forgets: str
) -> None:
    """If this fails, llama.cpp has been mended, and `cache_prompt: false` is no longer needed."""
    prompt, between = chat(knobbed, QUESTION), chat(knobbed, OTHER)
    setting = "medical=-1" if forgets == "cache_prompt" else ""
    expected = fresh(float32, files, manifest, prompt, setting)
    with llama_server(float32, files, **EXACT) as running:
        running.complete(prompt, request_fields(manifest, "medical=1", reuse_prompt=True))
        if forgets == "cache_prompt":
            running.complete(between, request_fields(manifest, setting, reuse_prompt=True))
        fields = {} if forgets == "lora" else request_fields(manifest, setting, reuse_prompt=True)
        found = running.complete(prompt, fields, tokens=12)
    assert found.reused == len(prompt) - 1
    assert distance(found, expected) > 100 * FLOAT32


def test_reuse_is_right_without_the_cache_in_memory(
    knobbed: KnobbedModel, manifest: Manifest, float32: Path, files: list[Path]
) -> None:
    prompt, between = chat(knobbed, QUESTION), chat(knobbed, OTHER)
    expected = {setting: fresh(float32, files, manifest, prompt, setting) for setting in ("medical=1", "medical=-1")}
    with llama_server(float32, files, cache_ram_mib=0, **EXACT) as running:
        for setting in ("medical=1", "medical=-1", "medical=-1", "medical=1"):
            running.complete(between, request_fields(manifest, "medical=-1", reuse_prompt=True))
            for _ in range(2):
                found = running.complete(prompt, request_fields(manifest, setting, reuse_prompt=True), tokens=12)
                assert found.text == expected[setting].text
                assert distance(found, expected[setting]) < FLOAT32
            assert found.reused == len(prompt) - 1


def test_requests_that_name_no_adapter_get_the_base_only_at_scale_zero(
    knobbed: KnobbedModel, manifest: Manifest, float32: Path, files: list[Path], server: LlamaServer
) -> None:
    prompt = chat(knobbed, QUESTION)
    base = server.complete(prompt, request_fields(manifest, ""))
    assert distance(server.complete(prompt, {"cache_prompt": False}), base) < FLOAT32
    with llama_server(float32, files, scale=1.0, lora_init_without_apply=True, **EXACT) as running:
        unnamed = running.complete(prompt, {"cache_prompt": False})
        assert distance(running.complete(prompt, request_fields(manifest, "")), base) < FLOAT32
    assert unnamed.first.keys() != base.first.keys() or distance(unnamed, base) > 0.1  # llama.cpp issue 28674


def test_what_the_server_does_not_tell_is_told_here(
    manifest: Manifest, float32: Path, files: list[Path], knobbed: KnobbedModel, server: LlamaServer
) -> None:
    check_server(manifest, server.url)
    check_server(manifest, server.url + "/v1/")
    with llama_server(float32, files[::-1]) as running, pytest.raises(ConfigError, match=r"adapter 0 .*5-financial"):
        check_server(manifest, running.url)
    prompt = chat(knobbed, QUESTION)
    unknown = server.complete(prompt, {"lora": [{"id": 99, "scale": 1.0}], "cache_prompt": False})  # not refused
    assert distance(unknown, server.complete(prompt, request_fields(manifest, ""))) < FLOAT32
    with pytest.raises(urllib.error.HTTPError, match="400"):
        server.complete(prompt, {"lora": {"id": 0, "scale": 1.0}})
