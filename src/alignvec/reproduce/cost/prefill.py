"""One batch of prompts answered greedily and timed: prefill, with or without a cached prefix, then token by token."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignvec.errors import DataError
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel

Clock = Callable[[], float]


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a prompt's constant beginning.

    They depend on the knobs that were turned while they were computed, so they serve requests with these alone.

    Attributes:
        tokens: the beginning.
        knobs: that it was computed with.
        cache: a transformers cache of one row.
    """

    tokens: tuple[int, ...]
    knobs: Knobs
    cache: Any

    @property
    def size(self) -> int:
        """Bytes of its keys and values."""
        return sum(t.nbytes for layer in self.cache.layers for t in (layer.keys, layer.values))


@dataclass(frozen=True)
class Answered:
    """A batch that was answered.

    Attributes:
        first: seconds until every row has its first token.
        later: seconds from there until every row has its last.
        tokens: [rows, new tokens], greedy.
    """

    first: float
    later: float
    tokens: list[list[int]]


def cache_prefix(model: KnobbedModel, tokens: Sequence[int], knobs: Knobs) -> Prefix:
    """Compute a prefix once, under the knobs that its requests will have."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.base.model.config)
    with torch.no_grad(), model.knobs(knobs) as network:
        ids = torch.tensor([list(tokens)], device=model.base.device)
        network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Prefix(tuple(tokens), dict(knobs), cache)


def answer(
    model: KnobbedModel,
    prompts: Sequence[Sequence[int]],
    knobs: Knobs,
    new_tokens: int,
    *,
    prefix: Prefix | None = None,
    clock: Clock = time.perf_counter,
) -> Answered:
    """Answer a batch of prompts at one setting with `new_tokens` tokens each, greedily, never ending early.

    Turning the knobs and copying the cached prefix count into the time to the first token; tokenising does not.

    Args:
        model: with the vectors of the knobs.
        prompts: token ids of each row.
        knobs: the setting of all rows.
        new_tokens: of each reply.
        prefix: what all prompts begin with, already computed at the same setting.
        clock: seconds.

    Raises:
        DataError: if the prefix is not the prompts' or of another setting, or a prompt and its reply do not fit the
            model's context.
    """
    known = prefix.tokens if prefix else ()
    if prefix and (prefix.knobs != dict(knobs) or any(tuple(p[: len(known)]) != known for p in prompts)):
        raise DataError("a cached prefix serves only prompts that begin with it, at the knobs it was computed with")
    longest = max(map(len, prompts))
    if longest + new_tokens > model.base.context_length:
        raise DataError(
            f"a prompt of {longest} tokens and a reply of {new_tokens} do not fit the model's context of "
            f"{model.base.context_length}; use a shorter system prompt or fewer new tokens"
        )
    # rows of unlike length are padded between the cached prefix and what follows it
    blanks = [longest - len(prompt) for prompt in prompts]
    pad = model.base.tokenizer.pad_token_id
    device = model.base.device
    rest = [[pad] * blank + list(p[len(known) :]) for p, blank in zip(prompts, blanks, strict=True)]
    ids = torch.tensor(rest, device=device)
    mask = torch.tensor(
        [[1] * len(known) + [0] * blank + [1] * (longest - len(known) - blank) for blank in blanks], device=device
    )
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, len(known) :]
    started = clock()
    with torch.no_grad(), model.knobs(knobs) as network:
        cache = _copied(prefix, len(prompts), network)
        tokens = _step(network, ids, mask, positions, cache)
        found = [tokens.cpu()]
        begun = clock()
        position = positions[:, -1:]
        for _ in range(new_tokens - 1):
            mask = torch.cat([mask, mask.new_ones((len(prompts), 1))], dim=1)
            position = position + 1
            tokens = _step(network, tokens, mask, position, cache)
            found.append(tokens)
        told = torch.cat([one.cpu() for one in found], dim=1).tolist()
        ended = clock()
    return Answered(begun - started, ended - begun, told)


def _copied(prefix: Prefix | None, rows: int, network: Any) -> Any:
    from transformers import DynamicCache

    if prefix is None:
        return DynamicCache(config=network.config)
    cache = copy.deepcopy(prefix.cache)
    if rows > 1:
        cache.batch_repeat_interleave(rows)
    return cache


def _step(network: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
    """Greedy next token of every row, [rows, 1]."""
    output = network(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    found: torch.Tensor = output.logits[:, -1].argmax(dim=-1, keepdim=True)
    return found
