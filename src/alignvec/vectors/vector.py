"""An alignment vector: named deltas for the tensors of one base model, and a card."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from alignvec.errors import VectorError
from alignvec.vectors.card import UNMEASURED, Card, Source
from alignvec.vectors.delta import Delta, add

Deltas = Mapping[str, Delta]
"""Tensor name in the base (such as `model.layers.0.mlp.up_proj.weight`) to its delta."""


@dataclass(frozen=True, eq=False)
class Part:
    """Deltas that share one gate: of a single vector all, of a hinged vector those of one sign of λ.

    Attributes:
        vector: the vector's name.
        deltas: by tensor name.
        sign: 0 if the gate is λ itself, +1 if it is max(λ, 0), -1 if it is max(-λ, 0).
    """

    vector: str
    deltas: Deltas
    sign: int

    def gate(self, coefficient: float) -> float:
        """What the deltas are multiplied by at coefficient λ."""
        return coefficient if self.sign == 0 else max(self.sign * coefficient, 0.0)


@dataclass(frozen=True, eq=False)
class AlignmentVector:
    """What one knob adds to a base model.

    Attributes:
        card: name, base, method, measurements.
        positive: deltas added at λ = 1; of a single vector also, negated, at λ = -1.
        negative: of a hinged vector, the deltas added at λ = -1; None for a single vector.
    """

    card: Card
    positive: Deltas
    negative: Deltas | None = None

    def __post_init__(self) -> None:
        if (self.card.form == "hinged") != (self.negative is not None):
            raise VectorError(f"vector {self.name!r}: form {self.card.form} does not fit its deltas")

    @property
    def name(self) -> str:
        """The knob's name."""
        return self.card.name

    @property
    def parts(self) -> tuple[Part, ...]:
        """One part, or two for a hinged vector."""
        if self.negative is None:
            return (Part(self.name, self.positive, 0),)
        return (Part(self.name, self.positive, 1), Part(self.name, self.negative, -1))

    def __mul__(self, factor: float) -> "AlignmentVector":
        """The vector that adds at every λ what this one adds there, times `factor`.

        Raises:
            VectorError: if the factor is not finite.
        """
        if not math.isfinite(factor):
            raise VectorError(f"vector {self.name!r} cannot be scaled by {factor}; use a finite number")
        negative = None if self.negative is None else _scaled(self.negative, factor)
        return AlignmentVector(_derived(self.card), _scaled(self.positive, factor), negative)

    __rmul__ = __mul__

    def __neg__(self) -> "AlignmentVector":
        """The vector that takes away at every λ what this one adds (`mirrored` turns the knob round instead)."""
        return self * -1.0

    def __add__(self, other: "AlignmentVector") -> "AlignmentVector":
        """The vector that adds at every λ what both add there; exact for low-rank deltas. Hinged if either is.

        Raises:
            VectorError: if they belong to different bases, or a tensor has another shape in each.
        """
        self.require_base(other.card.base.fingerprint)
        card = _derived(self.card, other.card)
        positive = _sum(self.positive, other.positive)
        if self.negative is None and other.negative is None:
            return AlignmentVector(card, positive)
        negative = _sum(self._at_minus_one(), other._at_minus_one())
        return AlignmentVector(card.model_copy(update={"form": "hinged"}), positive, negative)

    def __sub__(self, other: "AlignmentVector") -> "AlignmentVector":
        """The vector that adds at every λ what this one adds there, less what the other adds."""
        return self + -other

    def _at_minus_one(self) -> Deltas:
        return _scaled(self.positive, -1.0) if self.negative is None else self.negative

    def delta_at(self, coefficient: float) -> dict[str, Delta]:
        """λ·Δ (hinged: |λ| times the side of λ's sign), by tensor name; empty at λ = 0."""
        return {
            name: delta.scaled(part.gate(coefficient))
            for part in self.parts
            if part.gate(coefficient)
            for name, delta in part.deltas.items()
        }

    def require_template(self, found: str) -> None:
        """Check the hash of a base's chat template and vocabulary size.

        Raises:
            VectorError: if the vector was made with another.
        """
        if found != self.card.base.template:
            raise VectorError(
                f"vector {self.name!r} was made with another chat template or vocabulary than this tokenizer has; load "
                f"its base {self.card.base.name!r}, or pass --allow-other-base to transfer it on purpose"
            )

    def require_base(self, found: str) -> None:
        """Check the fingerprint of a base model.

        Raises:
            VectorError: if the vector belongs to another base.
        """
        expected = self.card.base
        if found != expected.fingerprint:
            raise VectorError(
                f"vector {self.name!r} belongs to base {expected.name!r} ({expected.fingerprint[:12]}), not to this "
                f"model ({found[:12]}); load the right base, or pass --allow-other-base to transfer it on purpose"
            )


def _derived(*cards: Card) -> Card:
    """Card of a vector made from others: what was recorded of them does not hold for it, but it is no more exact."""
    return cards[0].model_copy(
        update={
            "method": "combined",
            "settings": {},
            **UNMEASURED,
            "error": joined_error(*cards),
            "source": joined_source(*cards),
            "files": {},
            "tensors": {},
            "recipe": {"of": [card.name for card in cards]},
            "licence": joined_licence(*cards),
        }
    )


def joined_licence(*cards: Card) -> str:
    """Licence of a vector made from these cards' vectors: all of theirs, each named once."""
    return " AND ".join(dict.fromkeys(card.licence for card in cards))


def joined_error(*cards: Card) -> dict[str, float]:
    """Errors of a vector made from these cards' vectors: of each name the largest."""
    names = dict.fromkeys(name for card in cards for name in card.error)
    return {name: max(card.error.get(name, 0.0) for card in cards) for name in names}


_COARSEST_FIRST: Final = ("bfloat16", "float16", "float32")


def joined_source(*cards: Card) -> Source | None:
    """Source of a vector made from these cards' vectors: the worst of each figure, and all that was left out."""
    sources = [card.source for card in cards if card.source]
    if not sources:
        return None
    return Source(
        grid=min((source.grid for source in sources), key=_COARSEST_FIRST.index),
        zero_share=max(source.zero_share for source in sources),
        delta_ulp=min(source.delta_ulp for source in sources),
        left_out=list(dict.fromkeys(text for source in sources for text in source.left_out)),
        base_rounding=max(source.base_rounding for source in sources),
    )


def _scaled(deltas: Deltas, factor: float) -> dict[str, Delta]:
    return {name: delta.scaled(factor) for name, delta in deltas.items()}


def _sum(first: Deltas, second: Deltas) -> dict[str, Delta]:
    both = {name: add(delta, second[name]) for name, delta in first.items() if name in second}
    return {**first, **second, **both}


class _Shaped(Protocol):
    @property
    def shape(self) -> Sequence[int]: ...


def check_targets(vector: str, deltas: Deltas, weights: Mapping[str, _Shaped]) -> None:
    """Check that a model has every tensor that deltas name, in their shape.

    Raises:
        VectorError: naming the first that does not fit.
    """
    for name, delta in deltas.items():
        if name not in weights:
            raise VectorError(f"vector {vector!r} changes {name}, which this model does not have; load its own base")
        if tuple(weights[name].shape) != tuple(delta.shape):
            raise VectorError(
                f"vector {vector!r} changes {name} as {list(delta.shape)}, but here it is {list(weights[name].shape)}"
            )
