"""Deltas against products and sums in float64."""

import pytest
import torch

from alignvec.errors import VectorError
from alignvec.vectors.delta import DenseDelta, LowRankDelta, add


def low_rank(seed: int, *, rank: int = 3, out: int = 7, inside: int = 5) -> LowRankDelta:
    generator = torch.Generator().manual_seed(seed)
    return LowRankDelta(torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator))


def dense(seed: int, *, out: int = 7, inside: int = 5) -> DenseDelta:
    return DenseDelta(torch.randn(out, inside, generator=torch.Generator().manual_seed(seed)))


def product(delta: LowRankDelta) -> torch.Tensor:
    return delta.b.double() @ delta.a.double()


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dense_form_is_b_times_a_whatever_the_factors_are_stored_in(dtype: torch.dtype) -> None:
    delta = low_rank(0)
    stored = LowRankDelta(delta.a.to(dtype), delta.b.to(dtype))
    assert stored.dense().dtype == torch.float32
    assert_near(stored.dense(), product(stored))


def test_a_delta_knows_its_rank_and_the_shape_of_its_weight() -> None:
    delta = low_rank(0, rank=3, out=7, inside=5)
    assert (delta.rank, tuple(delta.shape)) == (3, (7, 5))
    assert tuple(dense(0).shape) == (7, 5)


def test_low_rank_deltas_add_by_concatenation() -> None:
    first, second = low_rank(0, rank=3), low_rank(1, rank=2)
    total = add(first, second)
    assert isinstance(total, LowRankDelta)
    assert total.rank == 5
    assert torch.equal(total.a[:3], first.a)
    assert torch.equal(total.a[3:], second.a)
    assert torch.equal(total.b[:, :3], first.b)
    assert torch.equal(total.b[:, 3:], second.b)
    assert_near(total.dense(), product(first) + product(second))


def test_a_low_rank_and_a_dense_delta_add_to_a_dense_one_either_way_round() -> None:
    low, full = low_rank(0), dense(1)
    expected = product(low) + full.value.double()
    for total in (add(low, full), add(full, low)):
        assert isinstance(total, DenseDelta)
        assert_near(total.dense(), expected)


def test_half_precision_dense_deltas_add_in_float32() -> None:
    one, tiny = DenseDelta(torch.ones(1, 1).bfloat16()), DenseDelta(torch.full((1, 1), 2.0**-12).bfloat16())
    assert add(one, tiny).dense().item() == 1 + 2.0**-12


@pytest.mark.parametrize("other", [low_rank(1, out=6), low_rank(1, inside=6), dense(1, out=6), dense(1, inside=1)])
def test_deltas_of_different_weights_do_not_add(other: LowRankDelta | DenseDelta) -> None:
    with pytest.raises(VectorError, match=rf"shapes \[7, 5\] and \[{other.shape[0]}, {other.shape[1]}\]"):
        add(low_rank(0), other)


@pytest.mark.parametrize(
    ("a", "b"),
    [(torch.zeros(3, 5), torch.zeros(7, 2)), (torch.zeros(5), torch.zeros(7, 5)), (torch.zeros(3, 5), torch.zeros(3))],
)
def test_factors_that_do_not_fit_together_are_refused(a: torch.Tensor, b: torch.Tensor) -> None:
    with pytest.raises(VectorError, match="do not fit together"):
        LowRankDelta(a, b)


@pytest.mark.parametrize("factor", [0.3, -1.7, 0.0])
def test_scaling_multiplies_the_dense_form(factor: float) -> None:
    low, full = low_rank(0), dense(1)
    assert_near(low.scaled(factor).dense(), product(low) * factor)
    assert_near(full.scaled(factor).dense(), full.value.double() * factor)
    assert_near(low.dense(), product(low))
