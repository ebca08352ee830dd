"""Weight soup (Wortsman et al. 2022; Ramé et al. 2023): the mean of the models that were trained for each level."""

from collections.abc import Sequence

from alignvec.errors import ConfigError
from alignvec.models import BaseModel
from alignvec.reproduce.methods.gated import Gated
from alignvec.reproduce.methods.knobs import name_of, names_by_domain
from alignvec.reproduce.methods.method import Goal
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.algebra import in_form
from alignvec.vectors.vector import AlignmentVector


class Soup(Gated):
    """θ = θ_base + (1/n) Σ Δ of the n domains that a goal names.

    The model of a domain's highest level is the λ = 1 side of its hinged vector, that of the lowest the λ = -1 side,
    and that of a level between them the base, which counts in the mean.

    Args:
        base: the base model.
        vectors: hinged, one a domain.
        levels: lowest first.
        train_seconds: of the vectors.

    Raises:
        ConfigError: if two vectors are of one domain.
        VectorError: if a vector is not hinged.
    """

    asks = "mean of one model a domain"
    new_goal = "average weights"

    def __init__(
        self,
        base: BaseModel,
        vectors: Sequence[AlignmentVector],
        levels: Sequence[str],
        *,
        train_seconds: float | None = None,
    ) -> None:
        model = KnobbedModel(base, [in_form(vector, "hinged") for vector in vectors])
        super().__init__("soup", model, train_seconds=train_seconds)
        self._levels = tuple(levels)
        self._names = names_by_domain(vectors)

    def knobs(self, goal: Goal) -> dict[str, float]:
        """±1/n for the ends of the scale."""
        found = {name_of(self._names, d): self._side(level) / len(goal) for d, level in goal.items()}
        return {name: value for name, value in found.items() if value}

    def _side(self, level: str) -> float:
        if level not in self._levels:
            raise ConfigError(f"no level {level!r} (have: {', '.join(self._levels)}); check the goal")
        return float(level == self._levels[-1]) - float(level == self._levels[0])
