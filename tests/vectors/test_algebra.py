"""Sums, differences and multiples of vectors against their definition at every λ, computed densely in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.errors import VectorError
from alignvec.vectors.algebra import FORMS, hinged, in_form, mirrored, sides, two_sided
from alignvec.vectors.card import BaseReference, Card, CurvePoint, Measurement, Source
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.strict import Interval
from alignvec.vectors.vector import AlignmentVector, Deltas

SHAPES = {
    "layers.0.up.weight": (7, 5),
    "layers.1.up.weight": (5, 7),
    "layers.1.down.weight": (6, 6),
    "norm.weight": (5,),
}
COEFFICIENTS = (-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0)
BASE = BaseReference(name="tiny", fingerprint="a" * 64, template="b" * 64)
Weights = dict[str, torch.Tensor]


def delta(generator: torch.Generator, shape: tuple[int, ...], *, dense: bool) -> Delta:
    if dense or len(shape) == 1:
        return DenseDelta(torch.randn(shape, generator=generator))
    return LowRankDelta(torch.randn(2, shape[1], generator=generator), torch.randn(shape[0], 2, generator=generator))


def side(seed: int) -> dict[str, Delta]:
    """Deltas for all tensors but one, dense for one more than the vector-shaped one; which ones depends on the seed."""
    generator, names = torch.Generator().manual_seed(seed), list(SHAPES)
    left_out, dense = names[seed % len(names)], names[(seed // len(names)) % len(names)]
    return {n: delta(generator, shape, dense=n == dense) for n, shape in SHAPES.items() if n != left_out}


def vector(seed: int, *, is_hinged: bool = False, name: str = "medical", **card: Any) -> AlignmentVector:
    form = "hinged" if is_hinged else "single"
    fields: dict[str, Any] = {"method": "one-sided", "base": BASE, **card}
    return AlignmentVector(Card(name=name, form=form, **fields), side(seed), side(seed + 100) if is_hinged else None)


def exact(deltas: Deltas) -> Weights:
    return {
        name: d.b.double() @ d.a.double() if isinstance(d, LowRankDelta) else d.dense().double()
        for name, d in deltas.items()
    }


def at(found: AlignmentVector, coefficient: float) -> Weights:
    """What the vector adds at λ, by the definition of single and hinged vectors; zero where it adds nothing."""
    weights = exact(found.positive if found.negative is None or coefficient > 0 else found.negative)
    factor = coefficient if found.negative is None else abs(coefficient)
    return {name: factor * weights.get(name, torch.zeros(shape).double()) for name, shape in SHAPES.items()}


def assert_same(found: Weights, expected: Weights) -> None:
    for name in SHAPES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


def combined(*terms: tuple[float, Weights]) -> Weights:
    return {name: sum((factor * weights[name] for factor, weights in terms), torch.zeros(())) for name in SHAPES}


def stranger() -> AlignmentVector:
    return vector(1, base=BASE.model_copy(update={"fingerprint": "f" * 64}))


vectors = st.builds(vector, st.integers(0, 99), is_hinged=st.booleans())
finite = st.floats(-3, 3)


@settings(deadline=None, max_examples=60)
@given(vectors, vectors, finite)
def test_a_sum_adds_at_every_lambda_what_both_add(u: AlignmentVector, v: AlignmentVector, coefficient: float) -> None:
    assert_same(at(u + v, coefficient), combined((1, at(u, coefficient)), (1, at(v, coefficient))))
    assert_same(at(v + u, coefficient), at(u + v, coefficient))


@settings(deadline=None, max_examples=60)
@given(vectors, vectors, finite, finite)
def test_differences_multiples_and_negatives_hold_at_every_lambda(
    u: AlignmentVector, v: AlignmentVector, factor: float, coefficient: float
) -> None:
    of_u, of_v = at(u, coefficient), at(v, coefficient)
    assert_same(at(u - v, coefficient), combined((1, of_u), (-1, of_v)))
    assert_same(at(factor * u, coefficient), combined((factor, of_u)))
    assert_same(at(u * factor, coefficient), combined((factor, of_u)))
    assert_same(at(-u, coefficient), combined((-1, of_u)))


def test_what_the_sum_hands_out_at_lambda_is_what_it_adds_there() -> None:
    total = vector(0, is_hinged=True) + vector(5)
    for coefficient in (-1.5, 0.5):
        found = exact(total.delta_at(coefficient))
        assert_same({name: found[name] for name in SHAPES}, at(total, coefficient))


@pytest.mark.parametrize(("is_hinged", "other"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_sum_is_hinged_if_either_is(is_hinged: bool, other: bool) -> None:
    total = vector(0, is_hinged=is_hinged) + vector(1, is_hinged=other)
    assert (total.negative is not None, total.card.form) == (
        (is_hinged or other),
        "hinged" if is_hinged or other else "single",
    )


def test_low_rank_deltas_stay_low_rank_and_are_concatenated() -> None:
    u, v = vector(5), vector(7)
    name = "layers.0.up.weight"
    one, two, total = u.positive[name], v.positive[name], (u - v).positive[name]
    assert isinstance(one, LowRankDelta)
    assert isinstance(two, LowRankDelta)
    assert isinstance(total, LowRankDelta)
    assert torch.equal(total.a, torch.cat([one.a, two.a]))
    assert torch.equal(total.b, torch.cat([one.b, -two.b], dim=1))


@pytest.mark.parametrize("is_hinged", [False, True])
def test_a_vector_less_itself_adds_nothing_at_any_lambda(is_hinged: bool) -> None:
    u = vector(0, is_hinged=is_hinged)
    for coefficient in COEFFICIENTS:
        for weight in at(u - u, coefficient).values():
            assert weight.abs().max().item() < 1e-12


def test_a_hinged_vector_less_one_of_its_sides_keeps_the_other_ones_difference() -> None:
    positive, negative = vector(0), vector(1)
    found = hinged(positive, negative) - positive
    assert_same(at(found, 1.0), combined((0, at(positive, 1.0))))
    assert_same(at(found, -1.0), combined((1, at(negative, 1.0)), (1, at(positive, 1.0))))


@pytest.mark.parametrize("is_hinged", [False, True])
@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_a_mirrored_knob_turns_the_other_way(is_hinged: bool, coefficient: float) -> None:
    u = vector(0, is_hinged=is_hinged)
    assert_same(at(mirrored(u), coefficient), at(u, -coefficient))


def test_a_negative_is_no_mirror_of_a_hinged_vector() -> None:
    u = vector(0, is_hinged=True)
    assert_same(at(-u, 1.0), combined((-1, at(u, 1.0))))
    assert not torch.allclose(at(-u, 1.0)["norm.weight"], at(mirrored(u), 1.0)["norm.weight"])


def test_two_sided_adds_half_the_difference_whatever_the_form_of_the_deltas() -> None:
    for first, second in ((0, 1), (2, 7), (4, 13)):
        plus, minus = vector(first), vector(second)
        assert_same(at(two_sided(plus, minus), 0.8), combined((0.4, at(plus, 1.0)), (-0.4, at(minus, 1.0))))


RATE = Interval(value=0.5, low=0.4, high=0.6)
MEASURED = Measurement(
    data="medical test",
    queries=4,
    generation={},
    judge="none",
    curve=[CurvePoint(coefficient=0.0, preference_rate={}, margin=RATE, margin_sum=RATE)],
)
RECORDED: dict[str, Any] = {
    "settings": {"expert": 1.0},
    "measured": MEASURED,
    "files": {"deltas.safetensors": "0" * 64},
    "tensors": {"deltas.safetensors": {"norm.weight": "0" * 32}},
    "error": {"storage_rounding": 0.1},
    "recipe": {"seed": 7},
    "domain": "medical",
}


@pytest.mark.parametrize(
    "derive",
    [lambda u, v: u + v, lambda u, v: u - v, lambda u, _: 2 * u, lambda u, _: -u, lambda u, _: mirrored(u)],
    ids=["sum", "difference", "multiple", "negative", "mirrored"],
)
def test_what_was_recorded_of_a_vector_does_not_pass_to_one_made_from_it(
    derive: Callable[[AlignmentVector, AlignmentVector], AlignmentVector],
) -> None:
    u, v = vector(0, **RECORDED), vector(1, name="legal", **RECORDED)
    card = derive(u, v).card
    assert (card.settings, card.measured, card.files, card.tensors) == ({}, None, {}, {})
    assert "seed" not in card.recipe
    assert (card.name, card.domain, card.base) == ("medical", "medical", BASE)
    assert u.card.settings == {"expert": 1.0}


def test_a_sum_names_what_it_is_made_of() -> None:
    card = (vector(0) + vector(1, name="legal")).card
    assert (card.recipe, card.method, card.name) == ({"of": ["medical", "legal"]}, "combined", "medical")


EVERY = [
    *(lambda u, v: u + v, lambda u, v: v + u, lambda u, v: u - v),
    *(two_sided, hinged, lambda u, v: hinged(v, u)),
]


@pytest.mark.parametrize("combine", EVERY)
def test_what_is_made_of_inexact_vectors_is_no_more_exact(combine: Any) -> None:
    u = vector(0, error={"compression": 0.25, "storage_rounding": 1e-4})
    v = vector(1, error={"compression": 0.5})
    assert combine(u, v).card.error == {"compression": 0.5, "storage_rounding": 1e-4}
    assert combine(vector(0), vector(1)).card.error == {}


@pytest.mark.parametrize("derive", [lambda u: 2.0 * u, lambda u: -u, mirrored])
def test_a_multiple_of_an_inexact_vector_is_as_inexact(derive: Any) -> None:
    assert derive(vector(0, error={"compression": 0.25})).card.error == {"compression": 0.25}


@pytest.mark.parametrize("combine", EVERY)
def test_sources_are_joined_by_their_worst_figures(combine: Any) -> None:
    u = vector(0, source=Source(grid="float16", zero_share=0.5, delta_ulp=9.0, left_out=["a", "b"]))
    v = vector(1, source=Source(grid="bfloat16", zero_share=0.25, delta_ulp=2.0, left_out=["b", "c"]))
    source = combine(u, v).card.source
    assert (source.grid, source.zero_share, source.delta_ulp) == ("bfloat16", 0.5, 2.0)
    assert sorted(source.left_out) == ["a", "b", "c"]
    assert combine(u, vector(1)).card.source == combine(vector(1), u).card.source == u.card.source
    assert combine(vector(0), vector(1)).card.source is None


@pytest.mark.parametrize("combine", [two_sided, hinged])
def test_both_sides_recipes_are_kept(combine: Any) -> None:
    up, down = {"aligned": "up", "seed": 1}, {"aligned": "down"}
    assert combine(vector(0, recipe=up), vector(1, recipe=down)).card.recipe == {**up, "negative": down}
    assert combine(vector(0), vector(1, recipe=down)).card.recipe == {"negative": down}
    assert combine(vector(0, recipe=up), vector(1, recipe=up)).card.recipe == up


@pytest.mark.parametrize(
    ("licences", "joined"),
    [(("MIT", "MIT"), "MIT"), (("MIT", "Apache-2.0"), "MIT AND Apache-2.0"), (("MIT", "unknown"), "MIT AND unknown")],
)
@pytest.mark.parametrize("combine", [lambda u, v: u + v, lambda u, v: u - v, two_sided, hinged])
def test_licences_are_joined(combine: Any, licences: tuple[str, str], joined: str) -> None:
    assert combine(vector(0, licence=licences[0]), vector(1, licence=licences[1])).card.licence == joined


def test_a_hinged_vector_taken_apart_or_mirrored_keeps_its_name_and_base_and_no_measurement() -> None:
    u = vector(0, is_hinged=True, **RECORDED)
    for one in (*sides(u), mirrored(u)):
        assert (one.name, one.card.base) == ("medical", BASE)
        assert (one.card.settings, one.card.measured, one.card.files, one.card.tensors) == ({}, None, {}, {})


@pytest.mark.parametrize("combine", [two_sided, hinged])
def test_what_two_sides_make_was_neither_measured_nor_saved(combine: Any) -> None:
    card = combine(vector(0, **RECORDED), vector(1, **RECORDED)).card
    assert (card.measured, card.files, card.tensors) == (None, {}, {})


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
def test_a_factor_that_is_not_finite_is_refused(factor: float) -> None:
    with pytest.raises(VectorError, match=r"'medical' cannot be scaled by (nan|-?inf); use a finite number"):
        vector(0) * factor


@pytest.mark.parametrize("combine", [lambda u, v: u + v, lambda u, v: u - v])
def test_vectors_for_different_bases_do_not_add(combine: Any) -> None:
    with pytest.raises(VectorError, match=r"'medical' belongs to base 'tiny' \(a{12}\), not to this model \(f{12}\)"):
        combine(vector(0), stranger())


def test_a_tensor_of_another_shape_in_each_is_refused() -> None:
    other = AlignmentVector(vector(0).card, {"norm.weight": DenseDelta(torch.ones(6))})
    with pytest.raises(VectorError, match=r"shapes \[5\] and \[6\]"):
        vector(0) + other


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_made_of_the_two_sides_under_the_same_name(form: str) -> None:
    whole = vector(3, is_hinged=True, name="own")
    found = in_form(whole, form)
    assert found.name == "own" and (found is whole if form == "hinged" else found.card.method == form)
    for coefficient in COEFFICIENTS:
        plus, minus = at(whole, 1.0), at(whole, -1.0)
        a, b = {
            "one-sided": (coefficient, 0.0),
            "two-sided": (coefficient / 2, -coefficient / 2),
            "hinged": (max(coefficient, 0.0), max(-coefficient, 0.0)),
        }[form]
        for name, weight in at(found, coefficient).items():
            torch.testing.assert_close(weight, a * plus[name] + b * minus[name], atol=1e-5, rtol=1e-5)


def test_unknown_forms_and_vectors_of_one_side_are_refused() -> None:
    with pytest.raises(VectorError, match="unknown form 'sideways'.*one-sided, two-sided, hinged"):
        in_form(vector(3, is_hinged=True), "sideways")
    for form in FORMS:
        with pytest.raises(VectorError, match="not hinged"):
            in_form(vector(3), form)
