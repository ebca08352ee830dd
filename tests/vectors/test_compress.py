"""Compressed forms against singular values, sorting and means in float64 numpy."""

from typing import Any

import numpy as np
import pytest
import torch

from alignvec.errors import ConfigError
from alignvec.vectors.compress import Form, compress_delta, parse_form
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta

EVERY = ["rank=3", "size=1/4", "energy=0.9", "topk=0.1", "dare=0.75", "sign", "dense"]
HALF = 2.0**-11
"""Relative rounding of float16, in which factors are stored."""


def spectrum(shape: tuple[int, int], values: Any, seed: int = 0) -> torch.Tensor:
    """A matrix with these singular values."""
    draw = np.random.default_rng(seed)
    left, right = (np.linalg.qr(draw.standard_normal((n, len(values))))[0] for n in shape)
    return torch.from_numpy((left * values) @ right.T).float()


def decaying(shape: tuple[int, int], power: float = 1.0) -> torch.Tensor:
    return spectrum(shape, np.arange(1, min(shape) + 1) ** -power)


def shrink(value: torch.Tensor | Delta, form: str, *, svd: Any = "exact", seed: int = 0) -> Any:
    delta = value if isinstance(value, Delta) else DenseDelta(value)
    return compress_delta(delta, parse_form(form), svd=svd, generator=torch.Generator().manual_seed(seed))


def off(found: Delta, value: torch.Tensor) -> float:
    """‖Δ' − Δ‖/‖Δ‖ in float64."""
    if isinstance(found, LowRankDelta):
        dense = found.b.double().numpy() @ found.a.double().numpy()
    else:
        dense = found.dense().double().numpy()
    exact = value.double().numpy()
    return float(np.linalg.norm(dense - exact) / np.linalg.norm(exact))


def tail(value: torch.Tensor, rank: int) -> float:
    """Error of the best approximation of a rank, relative."""
    values = np.linalg.svd(value.double().numpy(), compute_uv=False)
    return float(np.linalg.norm(values[rank:]) / np.linalg.norm(values))


@pytest.mark.parametrize(
    ("text", "form", "shown"),
    [
        ("rank=16", Form("rank", 16), "rank=16"),
        (" rank=1e1 ", Form("rank", 10), "rank=10"),
        ("rank=1E1", Form("rank", 10), "rank=10"),
        ("size=1/16", Form("size", 1 / 16), "size=0.0625"),
        ("energy=1", Form("energy", 1), "energy=1"),
        ("energy=0.9999999", Form("energy", 0.9999999), "energy=0.9999999"),
        ("topk=.02", Form("topk", 0.02), "topk=0.02"),
        ("dare=0", Form("dare", 0), "dare=0"),
        ("sign", Form("sign"), "sign"),
        ("dense", Form("dense"), "dense"),
    ],
)
def test_a_form_is_read_and_written_as_people_write_it(text: str, form: Form, shown: str) -> None:
    assert parse_form(text) == form
    assert str(form) == shown
    assert parse_form(shown) == form


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "unknown form ''"),
        ("lora=3", "unknown form 'lora' (have: rank: low rank"),
        ("Rank=3", "unknown form 'Rank'"),
        ("rank", "'' is out of range"),
        ("rank=", "'' is out of range"),
        ("rank=0", "'0' is out of range"),
        ("rank=1.5", "'1.5' is out of range"),
        ("rank=nan", "'nan' is out of range"),
        ("rank=inf", "'inf' is out of range"),
        ("rank=1e400", "'1e400' is out of range"),
        ("rank=-3", "'-3' is out of range"),
        ("rank=3=4", "'3=4' is out of range"),
        ("size=2", "'2' is out of range"),
        ("size=1", "'1' is out of range"),
        ("size=1/0", "'1/0' is out of range"),
        ("size=1/.", "'1/.' is out of range"),
        ("energy=0", "'0' is out of range"),
        ("energy=1.01", "'1.01' is out of range"),
        ("topk=", "'' is out of range"),
        ("topk=0", "'0' is out of range"),
        ("dare=1", "'1' is out of range"),
        ("dare=-0.1", "'-0.1' is out of range"),
        ("sign=3", "takes no number"),
        ("sign=", "takes no number"),
        ("dense=1", "takes no number"),
    ],
)
def test_a_form_that_cannot_be_is_refused_in_one_line(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_form(text)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (50, 50)])
@pytest.mark.parametrize("rank", [1, 7, 30])
def test_exact_low_rank_leaves_the_tail_of_the_singular_values(shape: tuple[int, int], rank: int) -> None:
    value = decaying(shape)
    found = shrink(value, f"rank={rank}")
    assert (found.rank, found.a.dtype, found.b.dtype) == (rank, torch.float16, torch.float16)
    assert off(found, value) == pytest.approx(tail(value, rank), rel=1e-4, abs=2 * HALF)


@pytest.mark.parametrize("shape", [(120, 400), (400, 120)])
@pytest.mark.parametrize("rank", [2, 12, 40])
def test_randomised_low_rank_is_within_two_percent_of_the_exact_error(shape: tuple[int, int], rank: int) -> None:
    value = decaying(shape)
    for seed in range(3):
        found = shrink(value, f"rank={rank}", svd="randomised", seed=seed)
        assert found.rank == rank
        assert tail(value, rank) * (1 - 1e-3) <= off(found, value) <= 1.02 * tail(value, rank)


@pytest.mark.parametrize("shape", [(70, 200), (200, 70)])
@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_an_energy_target_takes_the_least_rank_that_holds_it(shape: tuple[int, int], energy: float) -> None:
    value = decaying(shape, 0.7)
    shares = np.cumsum(np.linalg.svd(value.double().numpy(), compute_uv=False) ** 2)
    least = int(np.searchsorted(shares / shares[-1], energy)) + 1
    assert shrink(value, f"energy={energy}").rank == least


@pytest.mark.parametrize("shape", [(150, 500), (500, 150)])
@pytest.mark.parametrize("energy", [0.3, 0.8, 0.97])
def test_a_randomised_sketch_grows_until_it_holds_the_energy(shape: tuple[int, int], energy: float) -> None:
    value = decaying(shape, 0.8)
    shares = np.cumsum(np.linalg.svd(value.double().numpy(), compute_uv=False) ** 2)
    least = int(np.searchsorted(shares / shares[-1], energy)) + 1
    found = shrink(value, f"energy={energy}", svd="randomised")
    assert 1 - off(found, value) ** 2 >= energy - 4 * HALF**2
    assert least <= found.rank <= 1.05 * least + 1


def test_all_the_energy_is_the_rank_there_is() -> None:
    value = spectrum((50, 80), [3.0, 2.0, 1.0])
    found = shrink(value, "energy=1")
    assert found.rank == 3
    assert off(found, value) < 2 * HALF


@pytest.mark.parametrize("form", ["rank=3", "size=1/8", "energy=0.8"])
def test_low_rank_deltas_are_cut_exactly_whatever_svd_is_asked_for(form: str) -> None:
    draw = torch.Generator().manual_seed(3)
    delta = LowRankDelta(
        torch.randn(9, 40, generator=draw) * torch.arange(1, 10)[:, None], torch.randn(60, 9, generator=draw)
    )
    value = torch.from_numpy(delta.b.double().numpy() @ delta.a.double().numpy())
    shares = np.cumsum(np.linalg.svd(value.numpy(), compute_uv=False) ** 2)
    least = int(np.searchsorted(shares / shares[-1], 0.8)) + 1
    rank = {"rank=3": 3, "size=1/8": 3, "energy=0.8": least}[form]  # 60·40/8 = 300 numbers, 100 a rank
    found = shrink(delta, form, svd="randomised")
    assert found.rank == rank
    assert off(found, value) == pytest.approx(tail(value, rank), rel=1e-4)


def test_low_rank_deltas_of_fewer_ranks_stay_what_they_are() -> None:
    delta = LowRankDelta(torch.randn(2, 30), torch.randn(20, 2))
    found = shrink(delta, "rank=8")
    assert found.rank == 2
    assert off(found, delta.dense()) < 2 * HALF


@pytest.mark.parametrize("svd", ["exact", "randomised"])
@pytest.mark.parametrize("rank", [20, 21, 500])
def test_more_rank_than_a_matrix_has_is_all_of_it(svd: str, rank: int) -> None:
    value = torch.randn(20, 33, generator=torch.Generator().manual_seed(0))
    for matrix in (value, value.T.contiguous()):
        found = shrink(matrix, f"rank={rank}", svd=svd)
        assert found.rank == 20
        assert off(found, matrix) < 2 * HALF


@pytest.mark.parametrize("svd", ["exact", "randomised"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(40, 200), (200, 40)])
@pytest.mark.parametrize("rank", [9, 40])
def test_a_matrix_of_less_rank_than_is_kept_stays_finite(
    svd: str, scale: float, shape: tuple[int, int], rank: int
) -> None:
    few = torch.zeros(shape)
    few[3] = torch.randn(shape[1], generator=torch.Generator().manual_seed(0)) * scale
    for value in (spectrum(shape, [2.0, 1.0], seed=1) * scale, few):
        found = shrink(value, f"rank={rank}", svd=svd)
        assert found.a.isfinite().all()
        assert found.b.isfinite().all()
        assert off(found, value) < 4 * HALF


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize("svd", ["exact", "randomised"])
def test_a_tensor_of_zeros_stays_one(form: str, svd: str) -> None:
    for shape in ((30, 90), (90, 30)):
        found = shrink(torch.zeros(shape), form, svd=svd)
        assert torch.equal(found.dense(), torch.zeros(shape))


@pytest.mark.parametrize("share", ["1/2", "1/16", "0.1", "1/3"])
@pytest.mark.parametrize("shape", [(64, 64), (576, 192), (100, 317), (317, 100)])
def test_a_share_of_the_size_is_never_passed_and_used_up(share: str, shape: tuple[int, int]) -> None:
    delta = shrink(decaying(shape), f"size={share}", svd="randomised")
    allowed = parse_form(f"size={share}").value * 2 * shape[0] * shape[1]
    assert delta.nbytes <= allowed < delta.nbytes + 2 * sum(shape)


def test_the_largest_entries_are_kept_and_no_other() -> None:
    value = torch.randn(30, 41, generator=torch.Generator().manual_seed(0))
    found = shrink(value, "topk=0.1")
    order = np.argsort(-np.abs(value.numpy()).ravel())[: round(0.1 * value.numel())]
    expected = np.zeros(value.numel(), dtype=np.float32)
    expected[order] = value.bfloat16().float().numpy().ravel()[order]
    np.testing.assert_array_equal(found.dense().numpy().ravel(), expected)
    assert found.values.dtype == torch.bfloat16


def test_of_equal_entries_only_as_many_as_asked_for_are_kept() -> None:
    value = torch.full((10, 10), -0.5)
    value[2, 2], value[9, 9] = 3.0, -4.0
    found = shrink(value, "topk=0.05").dense()
    assert found.count_nonzero() == 5
    assert (found[2, 2], found[9, 9]) == (3.0, -4.0)
    assert (found[0, :3] == -0.5).all()  # the first of the equal ones


def test_zeros_are_never_kept_as_entries() -> None:
    value = torch.zeros(50, 40)
    value[7, :6] = torch.arange(1.0, 7.0)
    for form in ("topk=0.5", "topk=1", "dare=0"):
        found = shrink(value, form)
        assert len(found.values) == 6
        assert torch.equal(found.dense(), value)


def test_dropping_and_rescaling_is_unbiased_and_repeats_by_seed() -> None:
    value = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    draws = [shrink(value, "dare=0.8", seed=seed).dense() for seed in range(400)]
    for found in draws[:5]:
        kept = found != 0
        torch.testing.assert_close(found[kept], 5 * value[kept], rtol=2.0**-8, atol=0)
        assert abs(kept.float().mean().item() - 0.2) < 5 * (0.2 * 0.8 / 2000) ** 0.5
    mean = torch.stack(draws).mean(0)
    spread = value.abs() * (0.8 / 0.2 / 400) ** 0.5  # of the mean of a share of 0.2, times 5
    z = (mean - value) / spread
    assert z.abs().max() < 5.5
    assert abs(z.mean().item()) < 5 / 2000**0.5
    assert torch.equal(shrink(value, "dare=0.8", seed=7).dense(), draws[7])
    assert not torch.equal(draws[7], draws[8])


def test_the_scale_of_signs_leaves_the_least_error() -> None:
    value = torch.randn(30, 45, generator=torch.Generator().manual_seed(0)) + 0.3
    found = shrink(value, "sign")
    signs = np.where(value.numpy() >= 0, 1.0, -1.0)
    fitted = np.linalg.lstsq(signs.reshape(-1, 1), value.double().numpy().ravel(), rcond=None)[0][0]
    assert found.scale.item() == pytest.approx(fitted, rel=1e-6)
    np.testing.assert_allclose(found.dense().numpy(), signs * fitted, rtol=1e-6)
    assert found.nbytes == 30 * 6 + 4


@pytest.mark.parametrize("shape", [(30, 90), (90, 30)])
def test_the_exact_way_factors_the_smaller_gram_matrix(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, original = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: sizes.append(len(matrix)) or original(matrix))
    shrink(decaying(shape), "rank=3", svd="exact")
    assert sizes == [30]


@pytest.mark.parametrize("form", ["rank=14", "rank=3", "energy=0.9"])
def test_a_sketch_that_would_be_no_smaller_gives_way_to_the_exact_factors(form: str) -> None:
    exact, found = (shrink(decaying((30, 90), 0.5), form, svd=svd) for svd in ("exact", "randomised"))
    assert found.rank == exact.rank
    if form != "rank=3":
        assert torch.equal(found.dense(), exact.dense())


@pytest.mark.parametrize(("shape", "kind"), [((1, 50), DenseDelta), ((50, 1), DenseDelta), ((2, 50), LowRankDelta)])
def test_a_matrix_of_one_row_or_column_is_a_vector(shape: tuple[int, int], kind: type[Delta]) -> None:
    assert type(shrink(torch.ones(shape), "rank=1")) is kind


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_factors_are_rounded_once_whatever_they_are_stored_in(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    delta = LowRankDelta(torch.randn(3, 300, generator=draw).to(dtype), torch.randn(200, 3, generator=draw).to(dtype))
    assert off(shrink(delta, "rank=3"), delta.dense()) < HALF
