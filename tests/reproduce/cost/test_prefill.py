"""Answering with and without a cached prefix, on the tiny model."""

from collections.abc import Iterator
from itertools import count

import pytest
import torch

from alignvec import models
from alignvec.errors import DataError
from alignvec.reproduce.cost.prefill import answer, cache_prefix
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY
from tests.conftest import MakeVector

PROMPTS = [[5, 6, 7, 8, 20, 21, 22], [5, 6, 7, 8, 30], [5, 6, 7, 8, 40, 41]]
KNOBS = {"medical": 1.0}


@pytest.fixture
def model(tiny: models.BaseModel, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector("medical", rank=8)])


@pytest.mark.parametrize("knobs", [{}, KNOBS])
def test_a_cached_prefix_changes_no_token_and_neither_does_the_batch(
    model: KnobbedModel, knobs: dict[str, float]
) -> None:
    plain = answer(model, PROMPTS, knobs, 6)
    cached = answer(model, PROMPTS, knobs, 6, prefix=cache_prefix(model, PROMPTS[0][:4], knobs))
    alone = [answer(model, [prompt], knobs, 6).tokens[0] for prompt in PROMPTS]
    assert plain.tokens == cached.tokens == alone
    assert all(len(row) == 6 for row in plain.tokens)


def test_tokens_are_those_of_generate(model: KnobbedModel) -> None:
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad(), model.knobs(KNOBS) as network:
        expected = network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, min_new_tokens=5, do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    assert answer(model, PROMPTS[:1], KNOBS, 5).tokens == expected[:, len(PROMPTS[0]) :].tolist()
    assert answer(model, PROMPTS[:1], KNOBS, 5).tokens != answer(model, PROMPTS[:1], {}, 5).tokens


def test_a_prefix_can_be_used_again_and_knows_its_size(model: KnobbedModel) -> None:
    prefix = cache_prefix(model, PROMPTS[0][:4], KNOBS)
    first = answer(model, PROMPTS, KNOBS, 4, prefix=prefix)
    assert answer(model, PROMPTS, KNOBS, 4, prefix=prefix).tokens == first.tokens
    config = model.base.model.config
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    assert prefix.size == 2 * config.num_hidden_layers * 4 * width * 4  # keys and values, 4 tokens, float32


def test_keys_of_another_setting_are_refused_as_they_are_others(model: KnobbedModel) -> None:
    prefix = cache_prefix(model, PROMPTS[0][:4], {})
    turned = cache_prefix(model, PROMPTS[0][:4], KNOBS)
    assert not torch.allclose(prefix.cache.layers[-1].keys, turned.cache.layers[-1].keys)
    with pytest.raises(DataError, match="at the knobs it was computed with"):
        answer(model, PROMPTS, KNOBS, 4, prefix=prefix)
    with pytest.raises(DataError, match="begin with it"):
        answer(model, [[9, 6, 7, 8, 1]], {}, 4, prefix=prefix)


def test_time_is_read_at_the_start_the_first_token_and_the_end(model: KnobbedModel) -> None:
    ticks: Iterator[int] = count(10, 5)
    done = answer(model, PROMPTS, {}, 4, clock=lambda: float(next(ticks)))
    assert (done.first, done.later) == (5.0, 5.0) and next(ticks) == 25


def test_too_long_a_prompt_is_refused(model: KnobbedModel) -> None:
    with pytest.raises(DataError, match="do not fit the model's context of 512"):
        answer(model, [[1] * 510], {}, 3)
    assert GREEDY.temperature == 0
