"""Hinged, two-sided and single vectors against their definitions, computed densely in float64."""

from dataclasses import replace

import pytest
import torch

from alignvec.errors import VectorError
from alignvec.vectors.algebra import hinged, renamed, sides, two_sided
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.vector import AlignmentVector, Deltas, Part
from tests.conftest import MakeVector


def densely(deltas: Deltas) -> dict[str, torch.Tensor]:
    found = {}
    for name, delta in deltas.items():
        assert isinstance(delta, LowRankDelta)
        found[name] = delta.b.double() @ delta.a.double()
    return found


def assert_same(found: Deltas, expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].dense().double(), value, rtol=1e-5, atol=1e-7)


def without(vector: AlignmentVector, leaf: str) -> AlignmentVector:
    return replace(vector, positive={name: d for name, d in vector.positive.items() if leaf not in name})


@pytest.mark.parametrize(
    ("sign", "coefficient", "gate"),
    [(0, 0.3, 0.3), (0, -0.3, -0.3), (0, 0, 0), (1, 1.5, 1.5), (1, -0.3, 0), (-1, 0.3, 0), (-1, -1.5, 1.5), (-1, 0, 0)],
)
def test_a_gate_is_lambda_or_its_positive_or_negative_part(sign: int, coefficient: float, gate: float) -> None:
    assert Part("medical", {}, sign).gate(coefficient) == gate


def test_a_hinged_vector_has_two_parts_and_a_single_one_has_one(make_vector: MakeVector) -> None:
    vector = make_vector(hinged=True)
    assert [(part.vector, part.sign) for part in vector.parts] == [("medical", 1), ("medical", -1)]
    assert vector.parts[0].deltas is vector.positive
    assert vector.parts[1].deltas is vector.negative
    assert [part.sign for part in make_vector(hinged=False).parts] == [0]


def test_a_hinged_vector_adds_the_side_of_the_sign(make_vector: MakeVector) -> None:
    vector = make_vector(hinged=True)
    assert vector.negative is not None
    assert_same(vector.delta_at(0.4), {n: 0.4 * d for n, d in densely(vector.positive).items()})
    assert_same(vector.delta_at(-0.4), {n: 0.4 * d for n, d in densely(vector.negative).items()})
    assert vector.delta_at(0.0) == {}


def test_a_single_vector_is_added_with_the_sign(make_vector: MakeVector) -> None:
    vector = make_vector(hinged=False)
    for coefficient in (0.4, -0.4, 2.0):
        assert_same(vector.delta_at(coefficient), {n: coefficient * d for n, d in densely(vector.positive).items()})
    assert vector.delta_at(0.0) == {}


def test_two_sided_is_half_the_difference_of_the_sides(make_vector: MakeVector) -> None:
    positive, negative = make_vector(hinged=False, seed=1, rank=2), make_vector(hinged=False, seed=2, rank=3)
    plus, minus = densely(positive.positive), densely(negative.positive)
    vector = two_sided(positive, negative)
    assert (vector.card.form, vector.card.method) == ("single", "two-sided")
    assert_same(vector.positive, {n: (plus[n] - minus[n]) / 2 for n in plus})


def test_two_sided_takes_a_tensor_that_one_side_lacks_as_zero_there(make_vector: MakeVector) -> None:
    positive = without(make_vector(hinged=False, seed=1), "q_proj")
    negative = without(make_vector(hinged=False, seed=2), "up_proj")
    plus, minus = densely(positive.positive), densely(negative.positive)
    expected = {n: (plus.get(n, torch.zeros(())) - minus.get(n, torch.zeros(()))) / 2 for n in {**plus, **minus}}
    assert len(expected) > max(len(plus), len(minus))
    assert_same(two_sided(positive, negative).positive, expected)


def test_sides_undo_hinged(make_vector: MakeVector) -> None:
    positive, negative = make_vector(hinged=False, seed=1), make_vector(hinged=False, seed=2)
    both = hinged(positive, negative)
    assert (both.card.form, both.card.method) == ("hinged", "hinged")
    first, second = sides(both)
    assert first.positive is positive.positive
    assert second.positive is negative.positive
    assert first.negative is second.negative is None
    assert first.card.form == second.card.form == "single"


def test_a_single_vector_has_no_sides_to_take(make_vector: MakeVector) -> None:
    with pytest.raises(VectorError, match="'medical' is not hinged"):
        sides(make_vector(hinged=False))


@pytest.mark.parametrize("combine", [hinged, two_sided])
def test_sides_that_do_not_pair_are_refused(make_vector: MakeVector, combine: type) -> None:
    single = make_vector(hinged=False)
    other_base = single.card.base.model_copy(update={"fingerprint": "f" * 64})
    stranger = replace(single, card=single.card.model_copy(update={"base": other_base}))
    with pytest.raises(VectorError, match="must be single"):
        combine(single, make_vector(hinged=True))
    with pytest.raises(VectorError, match="belongs to base"):
        combine(single, stranger)


def test_a_wrong_base_is_refused_by_name_with_the_flag_that_overrides_it(make_vector: MakeVector) -> None:
    vector = make_vector("legal")
    expected = vector.card.base
    vector.require_base(expected.fingerprint)
    with pytest.raises(VectorError) as refusal:
        vector.require_base("0123456789abcdef")
    for part in ("'legal'", expected.name, expected.fingerprint[:12], "0123456789ab", "--allow-other-base"):
        assert part in str(refusal.value)


def test_the_form_on_the_card_must_fit_the_deltas(make_vector: MakeVector) -> None:
    single = make_vector(hinged=False)
    with pytest.raises(VectorError, match="form single does not fit"):
        AlignmentVector(single.card, single.positive, single.positive)
    with pytest.raises(VectorError, match="form hinged does not fit"):
        AlignmentVector(make_vector(hinged=True).card, single.positive)


def test_renaming_changes_the_knob_and_nothing_else(make_vector: MakeVector) -> None:
    vector = make_vector("medical")
    other = renamed(vector, "legal")
    assert (other.name, {part.vector for part in other.parts}) == ("legal", {"legal"})
    assert other.card.model_copy(update={"name": "medical"}) == vector.card
    assert other.positive is vector.positive
