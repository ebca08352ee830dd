"""Sparse and one-bit deltas against plain numpy."""

import numpy as np
import pytest
import torch

from alignvec.vectors.packed import SignDelta, SparseDelta, to_signs, to_sparse

SHAPES = [(6, 8), (6, 13), (5, 1), (1, 7), (6, 3, 5), (4, 2, 3, 3), (9,)]
RANGES = [(0, None), (1, 3), (0, 1), (-1, None), (2, 2), (0, 0)]


def values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mask(shape: tuple[int, ...], share: float = 0.3) -> np.ndarray:
    kept = np.random.default_rng(1).random(shape) < share
    kept[len(kept) // 2] = False
    return kept


def sparse(value: np.ndarray, kept: np.ndarray) -> SparseDelta:
    return to_sparse(torch.from_numpy(value), torch.from_numpy(kept))


def bounds(start: int, stop: int | None, rows: int) -> tuple[int, int]:
    first, last, _ = slice(start, stop).indices(rows)
    return first, max(last, first)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", RANGES)
def test_rows_of_a_sparse_delta_are_the_kept_entries(shape: tuple[int, ...], where: tuple[int, int | None]) -> None:
    value, kept = values(shape), mask(shape)
    start, stop = bounds(*where, shape[0])
    found = sparse(value, kept).rows(start, stop)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), np.where(kept, value, 0)[start:stop])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", RANGES)
def test_rows_of_a_sign_delta_are_signs_times_the_mean(shape: tuple[int, ...], where: tuple[int, int | None]) -> None:
    value = values(shape)
    start, stop = bounds(*where, shape[0])
    found = to_signs(torch.from_numpy(value)).rows(start, stop)
    expected = np.where(value >= 0, 1.0, -1.0)[start:stop] * np.abs(value.astype(np.float64)).mean()
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_forms_stream_and_unfold_to_the_same_weight(shape: tuple[int, ...]) -> None:
    value, kept = values(shape), mask(shape)
    for delta in (sparse(value, kept), to_signs(torch.from_numpy(value))):
        assert tuple(delta.shape) == shape
        assert delta.dense().shape == torch.Size(shape)
        for step in (1, 4, 100):
            assert torch.equal(torch.cat(list(delta.stream(step))), delta.dense())


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_nothing_and_everything_can_be_kept(share: float) -> None:
    value = values((5, 11))
    kept = np.full((5, 11), share > 1)
    np.testing.assert_array_equal(sparse(value, kept).dense().numpy(), value * kept)


@pytest.mark.parametrize(("columns", "dtype"), [(1 << 16, torch.uint16), ((1 << 16) + 1, torch.int32)])
def test_the_last_column_is_found_with_the_narrowest_index_that_holds_it(columns: int, dtype: torch.dtype) -> None:
    value = np.zeros((2, columns), dtype=np.float32)
    value[0, -1], value[1, 0] = 3.0, -2.0
    delta = sparse(value, value != 0)
    assert delta.columns.dtype == dtype
    np.testing.assert_array_equal(delta.dense().numpy(), value)


def test_a_sparse_delta_takes_bytes_for_what_it_keeps_alone() -> None:
    delta = sparse(values((4, 100)), mask((4, 100), 0.1))
    kept = int(mask((4, 100), 0.1).sum())
    assert delta.nbytes == kept * (4 + 2) + 4 * 4


@pytest.mark.parametrize(("columns", "width"), [(8, 1), (9, 2), (64, 8), (1, 1)])
def test_a_sign_delta_takes_one_bit_an_entry_and_fills_up_the_last_byte(columns: int, width: int) -> None:
    delta = to_signs(torch.from_numpy(values((6, columns))))
    assert tuple(delta.bits.shape) == (6, width)
    assert delta.nbytes == 6 * width + 4


def test_the_bits_are_numpys_in_little_order() -> None:
    value = values((3, 13))
    found = to_signs(torch.from_numpy(value)).bits.numpy()
    np.testing.assert_array_equal(found, np.packbits(value >= 0, axis=1, bitorder="little"))


def test_the_scale_of_the_signs_leaves_the_least_squared_error() -> None:
    value = values((7, 11)).astype(np.float64)
    delta = to_signs(torch.from_numpy(value).float())
    signs = np.where(value >= 0, 1.0, -1.0)
    best = np.linalg.lstsq(signs.reshape(-1, 1), value.reshape(-1), rcond=None)[0][0]
    assert delta.scale.item() == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("factor", [0.3, -1.7, 0.0])
def test_scaling_multiplies_every_entry(factor: float) -> None:
    value, kept = values((6, 13)), mask((6, 13))
    for delta in (sparse(value, kept), to_signs(torch.from_numpy(value))):
        expected = delta.dense().double().numpy() * factor
        np.testing.assert_allclose(delta.scaled(factor).dense().numpy(), expected, rtol=1e-6, atol=1e-7)
        assert type(delta.scaled(factor)) is type(delta)


def test_half_precision_values_are_scaled_without_rounding_again() -> None:
    value = values((2, 4))
    half = SparseDelta(
        torch.from_numpy(value.reshape(-1)).bfloat16(),
        torch.arange(4).repeat(2).to(torch.uint16),
        torch.tensor([4, 4], dtype=torch.int32),
        (2, 4),
    )
    expected = torch.from_numpy(value).bfloat16().double() * 0.1
    torch.testing.assert_close(half.scaled(0.1).dense().double(), expected, rtol=1e-6, atol=0)
    signs = SignDelta(to_signs(torch.from_numpy(value)).bits, torch.tensor(0.3).bfloat16(), (2, 4))
    assert signs.scaled(0.1).scale.item() == pytest.approx(torch.tensor(0.3).bfloat16().item() * 0.1, rel=1e-6)
