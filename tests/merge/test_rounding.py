"""Rounding against a table of every value that the dtype has."""

import numpy as np
import pytest
import torch

from alignvec.merge.rounding import rounded

HALVES = (torch.bfloat16, torch.float16)


def table(dtype: torch.dtype) -> np.ndarray:
    """All finite values of a 16-bit dtype, ascending, zero once, in float64."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).double()
    return np.unique(every[torch.isfinite(every)].numpy())


def neighbours(value: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest value of the dtype that is not above, and smallest that is not below, in float64."""
    values, wanted = table(dtype), value.double().numpy()
    below = values[np.searchsorted(values, wanted, side="right") - 1]
    above = values[np.searchsorted(values, wanted, side="left")]
    return torch.from_numpy(below), torch.from_numpy(above)


def hard_values(dtype: torch.dtype) -> torch.Tensor:
    """Around powers of two, around zero, subnormal, halfway between neighbours, and random; both signs."""
    info, generator = torch.finfo(dtype), torch.Generator().manual_seed(0)
    powers = 2.0 ** torch.arange(-14, 12).double()
    tiny = info.smallest_normal * info.eps  # the smallest subnormal
    around = [powers * (1 + shift * info.eps) for shift in (-0.3, -0.25, -0.1, 0.0, 1e-4, 0.25, 0.5, 0.7, 1.0)]
    small = tiny * torch.tensor([1e-3, 0.2, 0.5, 0.51, 0.9, 1.0, 1.1, 1.5, 2.5, 7.3, 1 / info.eps, 0.99 / info.eps])
    found = torch.cat([*around, small.double(), torch.randn(2000, generator=generator).double(), torch.zeros(1)])
    return torch.cat([found, -found]).float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_nearest_is_the_nearest_and_the_librarys_cast(dtype: torch.dtype) -> None:
    value = hard_values(torch.float16 if dtype == torch.float16 else torch.bfloat16)
    found = rounded(value, dtype, "nearest")
    assert found.dtype == dtype
    assert torch.equal(found, value.to(dtype))
    if dtype in HALVES:
        below, above = neighbours(value, dtype)
        away = (found.double() - value.double()).abs()
        assert torch.equal(away, torch.minimum(value.double() - below, above - value.double()))


@pytest.mark.parametrize("dtype", HALVES)
def test_stochastic_takes_a_neighbour_and_leaves_what_is_exact(dtype: torch.dtype) -> None:
    value = hard_values(dtype)
    below, above = neighbours(value, dtype)
    generator = torch.Generator().manual_seed(1)
    seen = torch.stack([rounded(value, dtype, "stochastic", generator).double() for _ in range(200)])
    assert ((seen == below) | (seen == above)).all()
    exact = below == above
    assert exact.sum() > 50
    assert (seen[:, exact] == value[exact].double()).all()
    share = ((value.double() - below) / (above - below))[~exact]
    middle = (share > 0.2) & (share < 0.8)  # both neighbours come, but for a chance of 0.8^200 each
    assert (seen[:, ~exact][:, middle].amin(0) == below[~exact][middle]).all()
    assert (seen[:, ~exact][:, middle].amax(0) == above[~exact][middle]).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("low", [1.0, -1.0, 0.0, 3.14e-3, -(2.0**-6), "subnormal", "below a power", "-subnormal"])
def test_the_mean_of_stochastic_rounding_is_the_value(dtype: torch.dtype, share: float, low: float | str) -> None:
    info = torch.finfo(dtype)
    tiny = info.smallest_normal * info.eps
    named = {"subnormal": 5 * tiny, "-subnormal": -tiny, "below a power": 1 - info.eps / 2}
    start = torch.tensor(named.get(low, low)).to(dtype)  # type: ignore[arg-type]
    values = table(dtype)
    above = values[np.searchsorted(values, start.item(), side="right")]
    step = above - start.item()
    value, draws = torch.tensor(start.item() + share * step), 100_000
    seen = rounded(value.expand(draws), dtype, "stochastic", torch.Generator().manual_seed(2)).double()
    # a share p of draws has the standard deviation sqrt(p (1 - p) / draws); share in float32 is off by 2^-13 at most
    exact = (value.double().item() - start.item()) / step
    bound = 6 * (exact * (1 - exact) / draws) ** 0.5 + 2.0**-24
    assert abs((seen - start.item()).mean().item() / step - exact) < bound


@pytest.mark.parametrize("dtype", HALVES)
def test_a_generator_of_one_seed_draws_the_same(dtype: torch.dtype) -> None:
    value = torch.randn(1000, generator=torch.Generator().manual_seed(3))
    one, same, other = (rounded(value, dtype, "stochastic", torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3, 5)])
@pytest.mark.parametrize("dtype", HALVES)
def test_any_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    found = rounded(torch.full(shape, 0.1), dtype, "stochastic", torch.Generator().manual_seed(0))
    assert (found.dtype, found.shape) == (dtype, torch.Size(shape))


@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_not_finite_stays_so(dtype: torch.dtype) -> None:
    value = torch.tensor(
        [float("inf"), -float("inf"), float("nan"), 3.4e38 if dtype is torch.float16 else float("inf")]
    )
    found = rounded(value, dtype, "stochastic", torch.Generator().manual_seed(0))
    assert not torch.isfinite(found).any()


def test_stochastic_float32_is_the_value() -> None:
    value = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounded(value, torch.float32, "stochastic", torch.Generator()), value)
