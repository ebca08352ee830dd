"""Activation steering: control vectors added to the residual stream (Turner et al. 2023, arXiv 2308.10248)."""

from collections.abc import Sequence
from typing import Any

import torch

from alignvec.errors import ConfigError, VectorError
from alignvec.models import BaseModel
from alignvec.reproduce.methods.control_vectors import ControlVectors, added, decoder_layers
from alignvec.reproduce.methods.method import Goal, encoded
from alignvec.reproduce.methods.strengths import Strengths, Tunable
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.fingerprint import fingerprint


class Steering(Tunable):
    """α times the control vector of every domain's level is added behind some layers, at all tokens, row by row.

    Args:
        base: the base model.
        vectors: its control vectors.
        strengths: α; 1 adds at each layer the whole difference of means.
        layers: numbers from 0; None: the middle one alone. A layer's difference holds those of the layers before it, so
            that with several the same thing is added several times: ten layers of the demo model at α = 0.5 each give
            gibberish.

    Raises:
        ConfigError: if there is no such layer.
        VectorError: if the control vectors belong to another base.
    """

    asks = "α of each domain's direction"
    new_goal = "add up directions"

    def __init__(
        self, base: BaseModel, vectors: ControlVectors, strengths: Strengths, *, layers: Sequence[int] | None = None
    ) -> None:
        super().__init__("steering", base, train_seconds=vectors.seconds)
        if vectors.base != fingerprint(base.folder):
            raise VectorError("these control vectors belong to another base model; find this one's")
        count = len(decoder_layers(base))
        self.layers = (count // 2,) if layers is None else tuple(layers)
        if not self.layers or not all(0 <= layer < count for layer in self.layers):
            raise ConfigError(f"no layers {list(self.layers)} to steer; the model has 0 to {count - 1}")
        self.vectors = vectors
        self.strengths = strengths
        self._model = KnobbedModel(base)

    def with_strengths(self, strengths: Strengths) -> "Steering":
        """See `Tunable.with_strengths`."""
        return Steering(self.base, self.vectors, strengths, layers=self.layers)

    def candidates(self, levels: Sequence[str], level: str, amounts: Sequence[float]) -> tuple[float, ...]:
        """The amounts, as every level has a direction of its own; 0 instead of the largest for levels between."""
        return tuple(amounts) if level in (levels[0], levels[-1]) else (0.0, *sorted(amounts)[:-1])

    def reply(self, queries: Sequence[str], goals: Sequence[Goal], sampling: Sampling) -> list[str]:
        """See `Method.reply`."""
        with added(self.base, self.layers, self._shifts(goals)):
            return self._model.generate(queries, {}, sampling)

    def score(self, queries: Sequence[str], replies: Sequence[Sequence[str]], goals: Sequence[Goal]) -> torch.Tensor:
        """See `Method.score`."""
        rows = [encoded(self.base, query, texts) for query, texts in zip(queries, replies, strict=True)]
        with added(self.base, self.layers, self._shifts(goals)):
            return self._model.score(rows, {})

    def is_base(self, goal: Goal) -> bool:
        """Whether nothing is added."""
        return not any(self.strengths_of(goal).values())

    def settings(self, goal: Goal) -> dict[str, Any]:
        """α of each domain's level."""
        return {domain: [goal[domain], alpha] for domain, alpha in sorted(self.strengths_of(goal).items())}

    @property
    def fixed(self) -> dict[str, Any]:
        """The directions and layers."""
        return {"directions": self.vectors.digest, "layers": list(self.layers)}

    @property
    def weight_bytes(self) -> int:
        """Bytes of the directions at the steered layers."""
        levels = [one for domain in self.vectors.directions.values() for one in domain.values()]
        return sum(one[list(self.layers)].nbytes for one in levels)

    def _shifts(self, goals: Sequence[Goal]) -> torch.Tensor:
        """[rows, layers, width]."""
        width = int(self.base.model.config.hidden_size)
        found = torch.zeros(len(goals), len(self.layers), width)
        for row, goal in enumerate(goals):
            for domain, alpha in self.strengths_of(goal).items():
                found[row] += alpha * self._direction(domain, goal[domain])[list(self.layers)]
        return found

    def _direction(self, domain: str, level: str) -> torch.Tensor:
        try:
            return self.vectors.directions[domain][level]
        except KeyError:
            raise ConfigError(f"no control vector for {domain}={level}; find one, or check the goal") from None
