"""Deltas against products and sums in float64."""

import numpy as np
import pytest
import torch

from alignvec.errors import VectorError
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta, SumDelta, add, rank_for, refactored


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


def test_a_low_rank_and_a_dense_delta_add_either_way_round() -> None:
    low, full = low_rank(0), dense(1)
    expected = product(low) + full.value.double()
    for total in (add(low, full), add(full, low)):
        assert_near(total.dense(), expected)
        assert_near(total.scaled(-0.3).dense(), -0.3 * expected)


def test_dense_tensors_are_added_at_once() -> None:
    total = add(dense(0), dense(1))
    assert isinstance(total, DenseDelta)
    assert_near(total.dense(), dense(0).value.double() + dense(1).value.double())


class Rowwise(Delta):
    """Stands for a delta on disk: hands out few rows at a time, counts them, and is never asked for all."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value, self.served = value, 0

    shape = property(lambda self: self.value.shape)  # type: ignore[assignment]
    nbytes = property(lambda self: self.value.nbytes)  # type: ignore[assignment]

    def scaled(self, factor: float) -> "Rowwise":
        return Rowwise(self.value * factor)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        assert stop - start <= 2
        self.served += stop - start
        return self.value[start:stop]


def test_a_sum_of_deltas_on_disk_reads_the_rows_it_is_asked_for() -> None:
    one, two = Rowwise(dense(0).value), Rowwise(dense(1).value)
    total = add(one, two)
    assert isinstance(total, SumDelta)
    assert (tuple(total.shape), total.nbytes, one.served) == ((7, 5), 7 * 5 * 4, 0)
    exact = dense(0).value.double() + dense(1).value.double()
    assert_near(total.rows(3, 5), exact[3:5])
    assert (one.served, two.served) == (2, 2)
    blocks = []
    for block in total.stream(2):
        blocks.append(block)
        assert one.served == two.served == 2 + sum(map(len, blocks))  # none is read ahead
    assert_near(torch.cat(blocks), exact)
    assert_near(torch.cat([*add(total.scaled(2.0), low_rank(2)).stream(2)]), 2 * exact + product(low_rank(2)))
    assert torch.equal(one.value, dense(0).value) and torch.equal(two.value, dense(1).value)


def test_a_sum_of_scalars_is_one_row() -> None:
    scalar = DenseDelta(torch.tensor(2.0))
    assert [block.item() for block in SumDelta((scalar, scalar.scaled(0.25))).stream(10)] == [2.5]


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


def with_values(values: list[float], *, out: int, inside: int, rank: int) -> LowRankDelta:
    """Float32 factors of `rank`, whose product has nearly these singular values and else none."""
    generator = np.random.default_rng(0)
    u = np.linalg.qr(generator.standard_normal((out, len(values))))[0]
    v = np.linalg.qr(generator.standard_normal((inside, len(values))))[0]
    mix = np.linalg.qr(generator.standard_normal((rank, rank)))[0][: len(values)]
    return LowRankDelta(torch.tensor(mix.T @ v.T).float(), torch.tensor(u * np.array(values) @ mix).float())


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank]


@pytest.mark.parametrize(("out", "inside", "rank"), [(7, 5, 12), (5, 7, 12), (7, 5, 3), (6, 6, 6)])
def test_refactoring_keeps_the_product_and_no_more_rank_than_the_weight_has(out: int, inside: int, rank: int) -> None:
    delta = low_rank(0, rank=rank, out=out, inside=inside)
    found = refactored(delta)
    assert found.rank == min(out, inside, rank)
    torch.testing.assert_close(product(found), product(delta), rtol=0, atol=1e-6 * product(delta).norm().item())


def test_refactoring_drops_rank_that_is_not_there() -> None:
    delta = low_rank(0, rank=2)
    twice = LowRankDelta(torch.cat([delta.a, delta.a]), torch.cat([delta.b, delta.b], dim=1))
    found = refactored(twice)
    assert found.rank == 2
    assert_near(found.dense(), 2 * product(delta))


def test_refactoring_keeps_small_directions_of_a_large_weight() -> None:
    delta = with_values([1.0, 1e-2, 1e-4, 1e-5], out=3000, inside=40, rank=6)
    error = (product(refactored(delta)) - product(delta)).norm() / product(delta).norm()
    assert error.item() < 1e-6


def test_refactoring_half_precision_factors_rounds_no_more_than_their_dtype() -> None:
    exact = low_rank(0, rank=6, out=300, inside=200)
    delta = LowRankDelta(exact.a.bfloat16(), exact.b.bfloat16())
    found = refactored(delta)
    assert found.a.dtype == found.b.dtype == torch.bfloat16
    assert found.rank == 6
    error = (product(found) - product(delta)).norm() / product(delta).norm()
    assert error.item() < torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize(
    ("energy", "rank"),
    [(0.5, 1), (0.9, 2), (0.99, 3), (0.9999999, 4)],  # squares 16, 9, 1, 0.01: shares 0.615, 0.961, 0.9996, 1
)
def test_an_energy_target_truncates_as_numpys_svd_does(energy: float, rank: int) -> None:
    delta = with_values([4.0, 3.0, 1.0, 0.1], out=9, inside=6, rank=5)
    found, expected = refactored(delta, energy=energy), truncated(product(delta).numpy(), rank)
    assert found.rank == rank
    np.testing.assert_allclose(product(found).numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_fixed_rank_truncates_as_numpys_svd_does(rank: int) -> None:
    delta = low_rank(3, rank=5, out=9, inside=6)
    found = refactored(delta, rank=rank)
    assert found.rank == rank
    np.testing.assert_allclose(product(found).numpy(), truncated(product(delta).numpy(), rank), rtol=0, atol=5e-6)


def test_refactoring_nothing_is_nothing_of_rank_one() -> None:
    found = refactored(LowRankDelta(torch.zeros(3, 5), torch.zeros(7, 3)))
    assert found.rank == 1
    assert not found.dense().any()


def test_a_sum_of_more_rank_than_the_weight_has_is_factored_anew() -> None:
    total, expected = low_rank(0), product(low_rank(0))
    for seed in range(1, 9):
        summed = add(total, low_rank(seed))
        assert isinstance(summed, LowRankDelta)
        total, expected = summed, expected + product(low_rank(seed))
        assert total.rank <= 5
    torch.testing.assert_close(product(total), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", [low_rank(0, rank=3, out=7, inside=5), dense(0)])
def test_rows_are_rows_of_the_dense_form(form: LowRankDelta | DenseDelta) -> None:
    whole = product(form) if isinstance(form, LowRankDelta) else form.value.double()
    for start, stop in ((0, 7), (2, 5), (6, 7), (3, 3)):
        assert_near(form.rows(start, stop), whole[start:stop])
    for step in (1, 3, 7, 100):
        blocks = list(form.stream(step))
        assert [len(block) for block in blocks] == [min(step, 7 - i) for i in range(0, 7, step)]
        assert_near(torch.cat(blocks), whole)


def test_a_scalars_delta_is_one_row() -> None:
    scalar = DenseDelta(torch.tensor(2.0))
    assert [block.item() for block in scalar.stream(10)] == [2.0]
    assert scalar.dense().shape == ()


@pytest.mark.parametrize(
    ("values", "energy", "rank"),
    [
        ([1.0, 1.0], 0.5, 1),
        ([1.0, 1.0], 0.51, 2),
        ([2.0, 1.0, 1.0], 0.66, 1),
        ([2.0, 1.0, 0.0], 1.0, 2),
        ([0.0], 1.0, 1),
    ],
)
def test_as_few_values_as_hold_the_energy_are_kept(values: list[float], energy: float, rank: int) -> None:
    assert rank_for(torch.tensor(values), energy, 3, torch.float32) == rank


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_at_full_energy_values_of_rounding_size_are_dropped(scale: float) -> None:
    limit = torch.finfo(torch.float32).eps * 100
    values = torch.tensor([1.0, 1.01 * limit, 0.99 * limit]) * scale
    assert rank_for(values, 1.0, 100, torch.float32) == 2
