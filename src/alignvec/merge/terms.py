"""What a merge adds to the tensors of a base, and how much of it survives the rounding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from alignvec.vectors.delta import Delta


@dataclass(frozen=True)
class Term:
    """A vector's deltas at one setting.

    Attributes:
        vector: its name.
        coefficient: λ as it was asked for.
        deltas: what is added at gate 1, by tensor name.
        gates: what a delta of each of the base's tensors is multiplied by.
        density: share of entries that a trimming or dropping method keeps.
    """

    vector: str
    coefficient: float
    deltas: Mapping[str, Delta]
    gates: Mapping[str, float]
    density: float = 1.0


@dataclass
class Overlap:
    """Inner products of what was really added with what should have been, summed over tensors.

    Attributes:
        added: [terms], <θ' − θ, gate·Δ>.
        gram: [terms, terms], <gate·Δ, gate·Δ>.
    """

    added: torch.Tensor
    gram: torch.Tensor

    @classmethod
    def zero(cls, terms: int) -> "Overlap":
        """Nothing added yet."""
        return cls(torch.zeros(terms, dtype=torch.float64), torch.zeros(terms, terms, dtype=torch.float64))

    def to_json(self) -> list[list[float]]:
        """Rows of numbers: `added`, then `gram`."""
        return [self.added.tolist(), *self.gram.tolist()]

    @classmethod
    def from_json(cls, value: list[list[float]]) -> "Overlap":
        """What `to_json` gave."""
        numbers = torch.tensor(value, dtype=torch.float64).view(len(value), len(value) - 1)
        return cls(numbers[0], numbers[1:])

    def __iadd__(self, other: "Overlap") -> "Overlap":
        self.added += other.added
        self.gram += other.gram
        return self

    def realised(self, terms: Sequence[Term]) -> dict[str, float | None]:
        """λ of each vector that the rounded weights really have; None where it cannot be told from the others.

        With one vector this is λ·<θ' − θ, Δ>/<Δ, Δ>; with several, the least-squares fit of θ' − θ by all of them, so
        that one vector's share is not counted for another that points the same way.
        """
        found: dict[str, float | None] = {term.vector: None for term in terms}
        live = [i for i in range(len(terms)) if self.gram[i, i] > 0]
        if not live:
            return found
        gram = self.gram[live][:, live]
        scale = gram.diagonal().sqrt()
        normal = gram / scale / scale[:, None]
        if torch.linalg.cond(normal) > _ALIKE:
            return found
        shares = torch.linalg.solve(normal, self.added[live] / scale) / scale
        for i, share in zip(live, shares.tolist(), strict=True):
            found[terms[i].vector] = terms[i].coefficient * share
        return found


_ALIKE = 1e8
"""Condition number beyond which vectors count as the same direction."""
