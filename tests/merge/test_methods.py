"""Merge methods against hand-worked numbers, float64 written from the papers' definitions, and binomial statistics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.errors import ConfigError
from alignvec.merge.methods import METHODS


def merged(
    name: str,
    deltas: torch.Tensor | list[list[float]],
    weights: list[float],
    densities: list[float] | None = None,
    *,
    normalize: bool = False,
    seed: int = 0,
) -> torch.Tensor:
    """What a method makes of a copy of the deltas."""
    stacked = torch.as_tensor(deltas, dtype=torch.float32).clone()
    return METHODS[name](
        stacked,
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(densities or [1.0] * len(weights), dtype=torch.float64),
        normalize,
        torch.Generator().manual_seed(seed),
    )


def random_deltas(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def exact_ties(deltas: np.ndarray, weights: list[float], densities: list[float], normalize: bool) -> np.ndarray:
    """TIES value by value in float64: trim by sorting, elect, then add up or average what agrees."""
    trimmed = np.zeros_like(deltas)
    for i, delta in enumerate(deltas):
        largest = sorted(range(delta.size), key=lambda j: -abs(delta[j]))[: max(1, int(densities[i] * delta.size))]
        trimmed[i, largest] = delta[largest]
    result = np.zeros(deltas.shape[1])
    for j in range(deltas.shape[1]):
        terms = [(w * d, abs(w)) for w, d in zip(weights, trimmed[:, j], strict=True)]
        positive = sum(t for t, _ in terms) >= 0
        agreeing = [(t, w) for t, w in terms if (t > 0 if positive else t < 0)]
        if agreeing:
            result[j] = sum(t for t, _ in agreeing) / (sum(w for _, w in agreeing) if normalize else 1)
    return result


coefficients = st.lists(st.sampled_from([-1.25, -0.5, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=4)


@given(coefficients, st.integers(0, 50), st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_ties_is_the_papers_algorithm(weights: list[float], seed: int, normalize: bool, data: st.DataObject) -> None:
    deltas = random_deltas(len(weights), 23, seed)
    densities = data.draw(st.lists(st.sampled_from([0.01, 0.2, 0.5, 0.7, 1.0]), min_size=4, max_size=4))[: len(weights)]
    expected = exact_ties(deltas.double().numpy(), weights, densities, normalize)
    found = merged("ties", deltas, weights, densities, normalize=normalize)
    assert np.abs(found.double().numpy() - expected).max() < 1e-5


def test_ties_by_hand() -> None:
    deltas = [[3.0, -1.0, 4.0, 0.5], [1.0, 5.0, -6.0, 0.25], [-5.0, 2.0, 1.0, 3.0]]
    # trimmed to two each: [3, 0, 4, 0], [0, 5, -6, 0], [-5, 0, 0, 3]; elected: -2, +5, -2, +3
    assert merged("ties", deltas, [1, 1, 1], [0.5] * 3).tolist() == [-5, 5, -6, 3]
    # nothing trimmed; elected: -1, +6, -1, +3.75; those that agree are added up or averaged
    assert merged("ties", deltas, [1, 1, 1]).tolist() == [-5, 7, -6, 3.75]
    assert merged("ties", deltas, [1, 1, 1], normalize=True).tolist() == [-5, 3.5, -6, 1.25]


def test_ties_elects_by_the_weighted_deltas() -> None:
    assert merged("ties", [[1.0], [-2.0]], [1, 1]).tolist() == [-2]
    assert merged("ties", [[1.0], [-2.0]], [3, 1]).tolist() == [3]
    # a negative coefficient turns its delta round: 0.5·2 and -0.5·-4 agree, and their mean has weights 0.5 and 0.5
    assert merged("ties", [[2.0], [-4.0]], [0.5, -0.5]).tolist() == [3]
    assert merged("ties", [[2.0], [-4.0]], [0.5, -0.5], normalize=True).tolist() == [3]


def test_ties_takes_plus_where_the_deltas_cancel() -> None:
    assert merged("ties", [[2.0, -3.0, 0.0], [-2.0, 3.0, 0.0]], [1, 1]).tolist() == [2, 3, 0]
    assert merged("ties", [[2.0, -3.0, 0.0], [-2.0, 3.0, 0.0]], [1, 1], normalize=True).tolist() == [2, 3, 0]


@pytest.mark.parametrize("weight", [-1.5, 0.0, 0.3, 1.0])
def test_ties_of_one_whole_delta_is_that_delta_scaled(weight: float) -> None:
    deltas = random_deltas(1, 50, 0).view(1, 5, 10)
    assert torch.equal(merged("ties", deltas, [weight]), deltas[0] * weight)


@pytest.mark.parametrize(("density", "kept"), [(0.001, 1), (0.1, 10), (0.29, 28), (0.7, 70), (0.999, 99), (1.0, 100)])
@pytest.mark.parametrize("values", ["distinct", "few", "equal", "sparse"])
def test_trimming_keeps_an_exact_count_of_the_largest(density: float, kept: int, values: str) -> None:
    delta = random_deltas(1, 100, 1)
    if values == "few":
        delta = delta.sign() * (delta.abs().ceil() + 1)
    elif values == "equal":
        delta = delta.sign()
    elif values == "sparse":
        delta[:, 5:] = 0
        kept = min(kept, 5)
    found = merged("ties", delta, [1.0], [density])
    chosen = found != 0
    assert int(chosen.sum()) == kept  # int(0.29 * 100) is 28, as in the reference implementations
    assert torch.equal(found[chosen], delta[0][chosen])
    if kept < 100:
        assert delta[0][chosen].abs().min() >= delta[0][~chosen].abs().max()


def test_sum_is_the_closed_form_and_divides_by_the_coefficients() -> None:
    deltas, weights = random_deltas(3, 40, 2), [0.5, -0.25, 1.5]
    expected = np.array(weights) @ deltas.double().numpy()
    assert np.abs(merged("sum", deltas, weights).double().numpy() - expected).max() < 1e-6
    normalized = merged("sum", deltas, weights, normalize=True)
    assert np.abs(normalized.double().numpy() - expected / 1.75).max() < 1e-6


@given(st.permutations(range(4)), st.integers(0, 20), st.sampled_from(["sum", "ties"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_order_does_not_matter(order: list[int], seed: int, name: str, normalize: bool) -> None:
    # small multiples of 1/8 add up without rounding, so that equal means equal
    deltas = (random_deltas(4, 30, seed) * 16).round() / 8
    weights, densities = [0.5, 1.0, 2.0, 0.5], [1.0, 0.5, 0.2, 0.9]
    found = merged(name, deltas, weights, densities, normalize=normalize)
    turned = merged(
        name, deltas[order], [weights[i] for i in order], [densities[i] for i in order], normalize=normalize
    )
    assert torch.equal(found, turned)


@pytest.mark.parametrize("name", ["sum", "dare"])
@pytest.mark.parametrize("weights", [[0.5, -0.5], [0.1, -0.4]])
def test_normalize_refuses_coefficients_that_do_not_add_up(name: str, weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="turn normalize off"):
        merged(name, random_deltas(2, 3, 0), weights, normalize=True)


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("normalize", [False, True])
def test_all_coefficients_at_zero_merge_to_nothing(name: str, normalize: bool) -> None:
    assert merged(name, random_deltas(2, 30, 0), [0.0, 0.0], [0.5, 0.5], normalize=normalize).abs().max() == 0


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_keeps_its_share_and_rescales_it(density: float) -> None:
    size = 40_000
    found = merged("dare", torch.full((1, size), 3.0), [0.5], [density])
    kept = found != 0
    assert torch.allclose(found[kept], torch.tensor(1.5 / density))
    deviation = (int(kept.sum()) - density * size) / math.sqrt(size * density * (1 - density))
    assert abs(deviation) < 4.5


def test_dares_mean_over_seeds_is_the_plain_sum() -> None:
    deltas, weights, densities, draws = random_deltas(2, 20, 3), [0.5, -1.5], [0.3, 0.8], 4000
    total = np.zeros(20)
    for seed in range(draws):
        total += merged("dare", deltas, weights, densities, seed=seed).double().numpy()
    exact = deltas.double().numpy()
    terms = np.array(weights)[:, None] * exact
    variance = sum(t**2 * (1 - d) / d for t, d in zip(terms, densities, strict=True))
    assert np.abs((total / draws - terms.sum(0)) / np.sqrt(variance / draws)).max() < 4.5


def test_a_draw_belongs_to_its_seed() -> None:
    deltas = random_deltas(2, 200, 4)
    first, again, other = (merged("dare", deltas, [1, 1], [0.5, 0.5], seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("name", "plain"), [("dare", "sum"), ("dare-ties", "ties")])
def test_dropping_nothing_changes_nothing(name: str, plain: str) -> None:
    deltas, weights = random_deltas(3, 50, 5), [0.5, -1.0, 2.0]
    for normalize in (False, True):
        assert torch.equal(
            merged(name, deltas, weights, normalize=normalize), merged(plain, deltas, weights, normalize=normalize)
        )


def test_dare_ties_elects_among_what_was_not_dropped() -> None:
    size = 40_000
    deltas = torch.stack([torch.full((size,), 1.0), torch.full((size,), -2.0)])
    found = merged("dare-ties", deltas, [1, 1], [0.5, 0.5])
    # doubled: nothing left 0, only the first 2, only the second -4, both: elected -, so -4
    shares = {0.0: 0.25, 2.0: 0.25, -4.0: 0.5}
    assert set(found.unique().tolist()) == set(shares)
    for value, share in shares.items():
        deviation = (int((found == value).sum()) - share * size) / math.sqrt(size * share * (1 - share))
        assert abs(deviation) < 4.5
