"""Vectors made of vectors: hinged, two-sided, mirrored, one side of a hinged one. Sums are operators of the vector."""

from dataclasses import replace

from alignvec.errors import VectorError
from alignvec.vectors.card import UNMEASURED, Card
from alignvec.vectors.vector import AlignmentVector, joined_error, joined_licence, joined_source

FORMS = ("one-sided", "two-sided", "hinged")
"""What the two sides of a hinged vector can be made into, the fewest factors first."""


def hinged(positive: AlignmentVector, negative: AlignmentVector) -> AlignmentVector:
    """λ > 0 adds λ·positive, λ < 0 adds |λ|·negative: at ±1 exactly the two trained models, at 0 the base.

    Raises:
        VectorError: if either is hinged already or they belong to different bases.
    """
    _require_single_pair(positive, negative)
    card = _of_sides(positive, negative, form="hinged", method="hinged")
    return AlignmentVector(card, positive.positive, negative.positive)


def two_sided(positive: AlignmentVector, negative: AlignmentVector) -> AlignmentVector:
    """(θ₊ − θ₋)/2, from the vectors θ₊ − θ and θ₋ − θ (Preference Vector, arXiv 2504.20106).

    Raises:
        VectorError: if either is hinged or they belong to different bases.
    """
    _require_single_pair(positive, negative)
    deltas = (0.5 * positive - 0.5 * negative).positive
    return AlignmentVector(_of_sides(positive, negative, form="single", method="two-sided"), deltas)


def sides(vector: AlignmentVector) -> tuple[AlignmentVector, AlignmentVector]:
    """The two one-sided vectors θ₊ − θ and θ₋ − θ that a hinged vector holds.

    Raises:
        VectorError: if the vector is not hinged.
    """
    if vector.negative is None:
        raise VectorError(f"vector {vector.name!r} is not hinged, so it has one side only")
    update = {"form": "single", "method": "one-sided", "settings": {}, **UNMEASURED, **_UNSAVED}
    card = vector.card.model_copy(update=update)
    return AlignmentVector(card, vector.positive), AlignmentVector(card, vector.negative)


def in_form(vector: AlignmentVector, form: str) -> AlignmentVector:
    """A hinged vector in one of the `FORMS`, under its own name, so that all forms come from the same training.

    Raises:
        VectorError: if the form is unknown, or the vector is not hinged.
    """
    if form not in FORMS:
        raise VectorError(f"unknown form {form!r} of a vector (have: {', '.join(FORMS)})")
    positive, negative = sides(vector)
    if form == "hinged":
        return vector
    return positive if form == "one-sided" else two_sided(positive, negative)


def mirrored(vector: AlignmentVector) -> AlignmentVector:
    """The knob turned round: its λ is the vector's -λ (a hinged one's sides change places)."""
    if vector.negative is None:
        return -vector
    card = vector.card.model_copy(update={"settings": {}, "method": "mirrored", **UNMEASURED, **_UNSAVED})
    return AlignmentVector(card, vector.negative, vector.positive)


def renamed(vector: AlignmentVector, name: str) -> AlignmentVector:
    """The same vector under another knob name."""
    return replace(vector, card=vector.card.model_copy(update={"name": name}))


_UNSAVED: dict[str, object] = {"files": {}, "tensors": {}}


def _of_sides(positive: AlignmentVector, negative: AlignmentVector, *, form: str, method: str) -> Card:
    cards = (positive.card, negative.card)
    recipe = positive.card.recipe
    if recipe != negative.card.recipe:
        recipe = {**recipe, "negative": negative.card.recipe}
    joined = {
        "recipe": recipe,
        "licence": joined_licence(*cards),
        "error": joined_error(*cards),
        "source": joined_source(*cards),
    }
    return positive.card.model_copy(update={"form": form, "method": method, **joined, **UNMEASURED, **_UNSAVED})


def _require_single_pair(positive: AlignmentVector, negative: AlignmentVector) -> None:
    if positive.negative is not None or negative.negative is not None:
        raise VectorError("both sides must be single vectors; take the sides of a hinged one first")
    positive.require_base(negative.card.base.fingerprint)
