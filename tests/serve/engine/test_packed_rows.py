"""Packed rows on several kinds of models: against models with λΔ written into the weights, generating alone."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from alignvec import models
from alignvec.logprobs import encode_prompt
from alignvec.serve.engine import engine as engines
from alignvec.serve.engine.attention import packed_attention
from alignvec.serve.engine.engine import Engine, EngineSettings
from alignvec.serve.engine.loaded import LoadedVectors, PackedKnobs
from alignvec.serve.engine.request import Job
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY
from tests.steer.written import KINDS, ROWS, WriteModel, load, rowwise_deltas, vector_of, write_kind, written

QUERIES = ["How?", "A longer question, why not?", "", "Again?", "And you, what do you say to it?"]
SHORT = GREEDY.model_copy(update={"max_new_tokens": 10})


@pytest.fixture(scope="session")
def write_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WriteModel:
    return partial(write_kind, tmp_path_factory.mktemp("packed"), tiny_folder)


def together(base: models.BaseModel, vectors: list[Any], queries: list[str], rows: list[dict[str, float]]) -> list[str]:
    """Replies of the engine, all in one batch."""
    engine = Engine(base, vectors, EngineSettings(max_batch=8, context=120))
    engine.start()

    async def reply(query: str, row: dict[str, float]) -> str:
        prompt = encode_prompt(base.tokenizer, [{"role": "user", "content": query}])
        tokens = [step.token async for step in engine.stream(Job(prompt, SHORT, row))]
        return str(base.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    async def all_of_them() -> list[str]:
        return await asyncio.wait_for(asyncio.gather(*map(reply, queries, rows)), 60)

    try:
        return asyncio.run(all_of_them())
    finally:
        engine.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_differ_in_every_kind_of_tensor_share_a_batch(write_model: WriteModel, kind: str) -> None:
    base = load(write_model(kind))
    vector = vector_of(base, [rowwise_deltas(kind, base)])
    expected = []
    for query, row in zip(QUERIES, ROWS, strict=True):
        other = models.BaseModel("w", base.folder, written(base.model, [vector], row), base.tokenizer)
        expected += KnobbedModel(other).generate([query], {}, SHORT)
    assert len({*expected} - {*KnobbedModel(base).generate(QUERIES, {}, SHORT)}) >= 2
    assert together(base, [vector], QUERIES, ROWS) == expected
    assert base.model.config._attn_implementation == "sdpa"


def test_a_prompt_longer_than_a_step_is_read_in_pieces(
    write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "STEP", 16)
    base = load(write_model("tied"))
    vector = vector_of(base, [rowwise_deltas("tied", base)])
    queries = ["word " * 9 + str(i) for i in range(5)]
    expected = [
        KnobbedModel(load(base.folder), [vector]).generate([q], row, SHORT)[0]
        for q, row in zip(queries, ROWS, strict=True)
    ]
    assert together(base, [vector], queries, ROWS) == expected


class Cache:
    """Keys and values of earlier tokens, as transformers' paged cache hands them out."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, lengths: list[int]) -> None:
        self._all, self._lengths = (keys, values), lengths

    def update(self, *, kwargs: dict[str, Any], **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        kwargs["cu_seq_lens_k"] = torch.tensor([0, *self._lengths]).cumsum(0)
        return self._all


@pytest.mark.parametrize("window", [None, 3, 64])
def test_attention_is_softmax_over_what_a_token_may_see(window: int | None) -> None:
    draw = torch.Generator().manual_seed(0)
    new, old = [1, 5, 1, 7, 4], [6, 0, 0, 3, 9]
    lengths = [n + o for n, o in zip(new, old, strict=True)]
    query = torch.randn(1, 4, sum(new), 8, generator=draw)
    keys, values = (torch.randn(1, 2, sum(lengths), 8, generator=draw) for _ in range(2))
    layer: Any = torch.nn.Module()
    layer.layer_idx = 0
    ends = torch.tensor([0, *new]).cumsum(0)
    # a layer with a window is given the keys inside the window of its first new token only
    found, _ = packed_attention(
        layer, query, keys, values, None, 0.3, Cache(keys, values, lengths), window, cu_seq_lens_q=ends
    )
    token = first = 0
    for n, o, length in zip(new, old, lengths, strict=True):
        for i in range(n):
            lowest = 0 if window is None or n == 1 else max(0, o + i - window + 1)
            seen = slice(first + lowest, first + o + i + 1)
            for head in range(4):
                weights = torch.softmax(query[0, head, token] @ keys[0, head // 2, seen].T * 0.3, dim=-1)
                torch.testing.assert_close(found[0, token, head], weights @ values[0, head // 2, seen])
            token += 1
        first += length


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_the_head_has_the_gates_of_the_tokens_that_it_is_given(write_model: WriteModel, kind: str) -> None:
    """Also where there are as many of them as tokens in the row, in another order."""
    base = load(write_model(kind))
    deltas = {n: d for n, d in rowwise_deltas(kind, base).items() if "embed" in n or "lm_head" in n}
    vector = vector_of(base, [deltas])
    loaded = LoadedVectors(base, [vector])
    knobs = PackedKnobs(base.model)
    ids, kept, values = torch.tensor([[5, 6, 7]]), [0, 2, 0], [0.5, -1.0, 2.0]
    knobs.turn([(loaded, loaded.gates({"tone": value}), 1) for value in values], kept)
    hidden = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = base.model.lm_head(hidden)[0]
        embedded = base.model.get_input_embeddings()(ids)[0]
    knobs.close()
    for place, token in enumerate(kept):
        other = written(base.model, [vector], {"tone": values[token]})
        torch.testing.assert_close(found[place], other.lm_head(hidden)[0, place], rtol=1e-4, atol=1e-4)
    for place, value in enumerate(values):
        other = written(base.model, [vector], {"tone": value})
        torch.testing.assert_close(embedded[place], other.get_input_embeddings()(ids)[0, place], rtol=1e-4, atol=1e-4)
