"""Sampling whose draws belong to a row, not to the batch: the same row gives the same text in any batch.

Gumbel noise is added to the filtered log-probabilities and the largest wins, which samples exactly from them. The
noise is seeded by seed and prompt: settings compared on one prompt share it (common random numbers) and differ by the
knob alone. Prompts that are to be compared can share it by a key in place of the prompt.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch


class Sampling(BaseModel):
    """How replies are decoded.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus, share of probability kept.
        repetition_penalty: above 1 makes tokens already in the reply less likely; the prompt does not count.
        max_new_tokens: longest reply in tokens.
        seed: of the noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=0.9, gt=0, le=1)
    repetition_penalty: float = Field(default=1.1, ge=1)
    max_new_tokens: int = Field(default=160, ge=1)
    seed: int = 0


LEAST = 1e-30
"""Temperature up to which the likeliest token is taken as it is: in float32 logits over less overflow."""
GREEDY = Sampling(temperature=0.0, top_p=1.0, repetition_penalty=1.0)


def logits_processors(
    sampling: Sampling,
    prompts: Sequence[Sequence[int]],
    prompt_length: int,
    *,
    first: "Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None" = None,
    keys: Sequence[Sequence[int]] | None = None,
    seeds: Sequence[int] | None = None,
) -> Any:
    """Processors after which the largest logit is the sampled token.

    Args:
        sampling: how to decode.
        prompts: token ids of each row's prompt.
        prompt_length: tokens before the reply, padding included.
        first: a processor that comes before all others.
        keys: token ids that seed each row's noise; default: its prompt.
        seeds: each row's seed; default: that of `sampling`.
    """
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
    )

    steps: list[Any] = [first] if first else []
    if sampling.repetition_penalty > 1:
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty, prompt_ignore_length=prompt_length))
    if sampling.temperature > LEAST:
        steps.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_p < 1:
            steps.append(_Nucleus(sampling.top_p))
        own = [sampling.seed] * len(prompts) if seeds is None else seeds
        rows = zip(own, prompts if keys is None else keys, strict=True)
        steps.append(_GumbelNoise([_row_seed(seed, key) for seed, key in rows]))
    return LogitsProcessorList(steps)


class _Nucleus:
    """Keeps the fewest tokens whose probabilities add up to a share.

    They are nearly always among the likeliest few hundred, which are found in a tenth of the time that sorting a
    vocabulary takes.
    """

    LIKELIEST = 512

    def __init__(self, share: float) -> None:
        self._share = share

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        probabilities = scores.softmax(dim=-1)
        for count in (min(self.LIKELIEST, scores.shape[-1]), scores.shape[-1]):
            likeliest, tokens = probabilities.topk(count, dim=-1)
            before = likeliest.cumsum(dim=-1) - likeliest
            if (before[:, -1] >= self._share).all():
                break
        beyond = before >= self._share
        beyond[:, 0] = False  # a share may be so small that it is 0 in float32
        dropped = torch.ones_like(scores, dtype=torch.bool).scatter(-1, tokens, beyond)
        return scores.masked_fill(dropped, -torch.inf)


class _GumbelNoise:
    def __init__(self, seeds: Sequence[int]) -> None:
        import torch

        self._seeds = seeds
        self._generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        noise = {
            seed: torch.empty(scores.shape[-1]).exponential_(generator=generator).log_().neg_()
            for seed, generator in self._generators.items()
        }
        return scores + torch.stack([noise[seed] for seed in self._seeds]).to(scores)


def _row_seed(seed: int, key: Sequence[int]) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {list(key)}".encode()).digest()[:7])
