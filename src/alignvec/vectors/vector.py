"""An alignment vector: named deltas for the tensors of one base model, and a card."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from alignvec.errors import VectorError
from alignvec.vectors.card import Card
from alignvec.vectors.delta import Delta, DenseDelta, add

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

    @property
    def is_dense(self) -> bool:
        """Whether any delta is dense, so that rows of a batch cannot have different coefficients."""
        return any(isinstance(delta, DenseDelta) for part in self.parts for delta in part.deltas.values())

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


def hinged(positive: AlignmentVector, negative: AlignmentVector) -> AlignmentVector:
    """λ > 0 adds λ·positive, λ < 0 adds |λ|·negative: at ±1 exactly the two trained models, at 0 the base.

    Raises:
        VectorError: if either is hinged already or they belong to different bases.
    """
    _require_single_pair(positive, negative)
    card = positive.card.model_copy(update={"form": "hinged", "method": "hinged", "measured": None, "files": {}})
    return AlignmentVector(card, positive.positive, negative.positive)


def two_sided(positive: AlignmentVector, negative: AlignmentVector) -> AlignmentVector:
    """(θ₊ − θ₋)/2, from the vectors θ₊ − θ and θ₋ − θ (Preference Vector, arXiv 2504.20106).

    Raises:
        VectorError: if either is hinged or they belong to different bases.
    """
    _require_single_pair(positive, negative)
    deltas = {name: delta.scaled(0.5) for name, delta in positive.positive.items()}
    for name, delta in negative.positive.items():
        half = delta.scaled(-0.5)
        deltas[name] = add(deltas[name], half) if name in deltas else half
    return AlignmentVector(
        positive.card.model_copy(update={"method": "two-sided", "measured": None, "files": {}}), deltas
    )


def sides(vector: AlignmentVector) -> tuple[AlignmentVector, AlignmentVector]:
    """The two one-sided vectors θ₊ − θ and θ₋ − θ that a hinged vector holds.

    Raises:
        VectorError: if the vector is not hinged.
    """
    if vector.negative is None:
        raise VectorError(f"vector {vector.name!r} is not hinged, so it has one side only")
    card = vector.card.model_copy(update={"form": "single", "method": "one-sided", "measured": None, "settings": {}})
    return AlignmentVector(card, vector.positive), AlignmentVector(card, vector.negative)


def renamed(vector: AlignmentVector, name: str) -> AlignmentVector:
    """The same vector under another knob name."""
    return replace(vector, card=vector.card.model_copy(update={"name": name}))


def _require_single_pair(positive: AlignmentVector, negative: AlignmentVector) -> None:
    if positive.negative is not None or negative.negative is not None:
        raise VectorError("both sides must be single vectors; take the sides of a hinged one first")
    positive.require_base(negative.card.base.fingerprint)
