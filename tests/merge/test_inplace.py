"""In-place knobs against closed forms: float64 sums, exact dyadic numbers, and the untouched base."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.errors import VectorError
from alignvec.merge.inplace import InplaceKnob
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.vector import Part

Weights = dict[str, torch.Tensor]


def make_weights(dtype: torch.dtype = torch.float32) -> Weights:
    generator = torch.Generator().manual_seed(0)
    shapes = {"one": (6, 4), "two": (3, 6), "norm": (5,), "untouched": (2, 2)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def make_parts() -> list[Part]:
    """Three parts: low-rank and dense deltas, with tensors that only some of them change."""
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    first: dict[str, Delta] = {"one": LowRankDelta(randn(2, 4), randn(6, 2)), "norm": DenseDelta(randn(5))}
    second: dict[str, Delta] = {"one": DenseDelta(randn(6, 4)), "two": LowRankDelta(randn(1, 6), randn(3, 1))}
    third: dict[str, Delta] = {"two": DenseDelta(randn(3, 6))}
    return [Part("medical", first, 1), Part("medical", second, -1), Part("legal", third, 0)]


def exact(delta: Delta) -> torch.Tensor:
    return delta.b.double() @ delta.a.double() if isinstance(delta, LowRankDelta) else delta.value.double()


def closed_form(base: Weights, parts: list[Part], gates: list[float]) -> Weights:
    total = {name: weight.double() for name, weight in base.items()}
    for part, gate in zip(parts, gates, strict=True):
        for name, delta in part.deltas.items():
            total[name] = total[name] + gate * exact(delta)
    return total


def copies(weights: Weights) -> Weights:
    return {name: weight.clone() for name, weight in weights.items()}


@pytest.mark.parametrize("gates", [[1.0, 0.0, 0.0], [0.0, 0.0, -2.0], [0.3, 0.0, -0.7], [1.5, 0.25, 3.0]])
def test_a_turn_is_the_base_plus_the_gated_deltas(gates: list[float]) -> None:
    weights, parts = make_weights(), make_parts()
    expected = closed_form(copies(weights), parts, gates)
    InplaceKnob(weights, parts).turn(gates)
    for name, weight in weights.items():
        torch.testing.assert_close(weight.double(), expected[name], rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_turn_does_not_remember_the_turns_before(history: list[list[float]]) -> None:
    weights, fresh = make_weights(), make_weights()
    knob = InplaceKnob(weights, make_parts())
    for gates in history:
        knob.turn(gates)
    InplaceKnob(fresh, make_parts()).turn(history[-1])
    assert all(torch.equal(weights[name], fresh[name]) for name in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_thousand_turns_leave_no_trace(dtype: torch.dtype) -> None:
    weights = make_weights(dtype)
    base = copies(weights)
    knob = InplaceKnob(weights, make_parts())
    generator = torch.Generator().manual_seed(2)
    for _ in range(1000):
        knob.turn((torch.randn(3, generator=generator) * 10).tolist())
    assert not torch.equal(weights["one"], base["one"])
    knob.restore()
    assert all(torch.equal(weights[name], base[name]) for name in weights)


def test_small_steps_that_bfloat16_would_lose_one_by_one_arrive_together() -> None:
    step = 2.0**-9  # a quarter of the distance from 1 to the next bfloat16: alone it rounds away, three do not
    weights = {"w": torch.ones(4, 4).bfloat16()}
    parts = [Part(str(i), {"w": DenseDelta(torch.full((4, 4), step))}, 0) for i in range(3)]
    knob = InplaceKnob(weights, parts)
    knob.turn([1.0, 0.0, 0.0])
    assert (weights["w"] == 1.0).all()
    knob.turn([1.0, 1.0, 1.0])
    assert (weights["w"] == 1.0 + 2.0**-7).all()


def test_bfloat16_weights_are_rounded_once_from_the_whole_sum() -> None:
    generator = torch.Generator().manual_seed(3)

    def dyadic(bits: int) -> torch.Tensor:  # multiples of 2**-16 below 1: float32 adds them without any rounding
        return torch.randint(-(2**bits), 2**bits, (64, 64), generator=generator) / 2.0**16

    base = dyadic(16).bfloat16()
    deltas = [dyadic(12), dyadic(9), dyadic(9)]
    weights = {"w": base.clone()}
    InplaceKnob(weights, [Part(str(i), {"w": DenseDelta(d)}, 0) for i, d in enumerate(deltas)]).turn([1.0, -2.0, 0.5])
    total = base.double() + deltas[0].double() - 2 * deltas[1].double() + 0.5 * deltas[2].double()
    assert torch.equal(weights["w"], total.bfloat16())


def test_a_tensor_that_the_model_lacks_is_refused_by_name() -> None:
    part = Part("legal", {"three": DenseDelta(torch.zeros(2))}, 0)
    with pytest.raises(VectorError, match="vector 'legal' changes three, which this model does not have"):
        InplaceKnob(make_weights(), [part])


def test_a_tensor_of_another_shape_is_refused_by_name() -> None:
    weights = make_weights()
    part = Part("legal", {"one": LowRankDelta(torch.zeros(1, 6), torch.zeros(4, 1))}, 0)
    with pytest.raises(VectorError, match=r"'legal' changes one as \[4, 6\], but here it is \[6, 4\]"):
        InplaceKnob(weights, [part])
    assert torch.equal(weights["one"], make_weights()["one"])
