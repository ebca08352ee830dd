"""Logits mixing: base and aligned models decode in lockstep, and their logits are combined at every token.

DeRa (Liu et al. 2024, arXiv 2402.02992) for one domain, MOD (Shi et al. 2024, arXiv 2406.18853) for several:
logits = base + Σ λ_d · (aligned_d - base).
"""

from collections.abc import Sequence
from typing import Any

import torch

from alignvec.logprobs import kept_logits, pack, sum_logprobs
from alignvec.models import BaseModel
from alignvec.reproduce.methods.knobs import name_of, names_by_domain
from alignvec.reproduce.methods.method import Goal, bytes_of, digest_of, encoded
from alignvec.reproduce.methods.strengths import Strengths, Tunable
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.algebra import in_form
from alignvec.vectors.vector import AlignmentVector


class Mixing(Tunable):
    """Each query is a group of rows: the base, and the aligned model of every domain at a strength other than 0.

    A positive strength mixes the model at λ = 1 of a hinged vector, a negative one that at λ = -1. The rows of a group
    share a batch and all go on with the token that was sampled from the combined logits.

    Args:
        model: with one hinged vector a domain, see `mixing_method`.
        strengths: weight of the aligned model.
        train_seconds: of the vectors.
    """

    asks = "weights of the models' logits"
    new_goal = "look up each weight"

    def __init__(self, model: KnobbedModel, strengths: Strengths, *, train_seconds: float | None = None) -> None:
        super().__init__("mixing", model.base, train_seconds=train_seconds)
        self.model = model
        self.strengths = strengths
        self._names = names_by_domain(list(model.vectors.values()))

    def with_strengths(self, strengths: Strengths) -> "Mixing":
        """See `Tunable.with_strengths`."""
        return Mixing(self.model, strengths, train_seconds=self.train_seconds)

    def members(self, goal: Goal) -> list[tuple[Knobs, float]]:
        """The models of a group with their weights, which add up to 1; those of weight 0 are left out."""
        aligned: list[tuple[Knobs, float]] = [
            ({name_of(self._names, domain): 1.0 if value > 0 else -1.0}, abs(value))
            for domain, value in self.strengths_of(goal).items()
            if value
        ]
        rest = 1.0 - sum(weight for _, weight in aligned)
        return [({}, rest), *aligned] if rest else aligned

    def reply(self, queries: Sequence[str], goals: Sequence[Goal], sampling: Sampling) -> list[str]:
        """See `Method.reply`."""
        groups = [self.members(goal) for goal in goals]
        chats = [
            [{"role": "user", "content": query}] for query, group in zip(queries, groups, strict=True) for _ in group
        ]
        knobs = [one for group in groups for one, _ in group]
        combine = _Combined([[weight for _, weight in group] for group in groups], self.base.device)
        replies = self.model.continuations(chats, knobs, sampling, combine=combine)
        return [replies[first].text for first in combine.firsts]

    def score(self, queries: Sequence[str], replies: Sequence[Sequence[str]], goals: Sequence[Goal]) -> torch.Tensor:
        """See `Method.score`; one query at a time, as the logits of all its replies' tokens are held at once."""
        found = []
        for query, texts, goal in zip(queries, replies, goals, strict=True):
            row, group = encoded(self.base, query, texts), self.members(goal)
            batch, one = (
                pack(
                    rows, pad_id=self.base.tokenizer.pad_token_id, dtype=self.base.model.dtype, device=self.base.device
                )
                for rows in ([row] * len(group), [row])
            )
            with torch.no_grad(), self.model.knobs([knobs for knobs, _ in group]) as model:
                logits = kept_logits(model, batch)
                mixed = torch.zeros_like(logits[:1])
                for member, (_, weight) in zip(logits, group, strict=True):
                    mixed += weight * member
                found.append(sum_logprobs(mixed, one).cpu())
        return torch.cat(found)

    def is_base(self, goal: Goal) -> bool:
        """Whether no other model is mixed in."""
        return self.members(goal) == [({}, 1.0)]

    def settings(self, goal: Goal) -> dict[str, Any]:
        """Weights of the models."""
        return {"members": [[dict(knobs), weight] for knobs, weight in self.members(goal)]}

    @property
    def fixed(self) -> dict[str, Any]:
        """The vectors."""
        return {"vectors": {name: digest_of(one) for name, one in sorted(self.model.vectors.items())}}

    @property
    def weight_bytes(self) -> int:
        """Bytes of the vectors."""
        return sum(map(bytes_of, self.model.vectors.values()))


def mixing_method(
    base: BaseModel,
    vectors: Sequence[AlignmentVector],
    strengths: Strengths,
    *,
    train_seconds: float | None = None,
) -> Mixing:
    """Mixing of the models of hinged vectors.

    Args:
        base: the base model.
        vectors: hinged, one a domain, without deltas that need one coefficient a batch.
        strengths: domain to level to weight; {} before any was chosen.
        train_seconds: of the vectors.

    Raises:
        ConfigError: if two vectors are of one domain.
        VectorError: if a vector is not hinged.
    """
    model = KnobbedModel(base, [in_form(vector, "hinged") for vector in vectors])
    return Mixing(model, strengths, train_seconds=train_seconds)


class _Combined:
    """Gives all rows of a group the weighted sum of their logits; a group's rows stand one after the other."""

    def __init__(self, weights: Sequence[Sequence[float]], device: torch.device) -> None:
        sizes = [len(group) for group in weights]
        self.firsts = [sum(sizes[:i]) for i in range(len(sizes))]
        most = max(sizes)
        members = [
            [first + min(m, size - 1) for m in range(most)] for first, size in zip(self.firsts, sizes, strict=True)
        ]
        padded = [[*group, *[0.0] * (most - len(group))] for group in weights]
        self._members = torch.tensor(members, device=device).T
        self._weights = torch.tensor(padded, device=device).T.unsqueeze(-1)
        self._group = torch.tensor([i for i, size in enumerate(sizes) for _ in range(size)], device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        mixed = torch.zeros_like(scores[self._members[0]])
        for members, weights in zip(self._members, self._weights, strict=True):  # in order, so that batches agree
            mixed += weights * scores[members]
        return mixed[self._group]
