"""What answers for the model: a stand-in with known noise, and a pool of measured settings."""

import numpy as np
import pytest

from alignvec.errors import DataError
from alignvec.solve.oracle import Pool, StandIn
from alignvec.solve.solver import measured_rates
from tests.solve.synthetic import BOX, DOMAINS, LEVELS, RuleMeter


@pytest.fixture(scope="module")
def stand_in() -> StandIn:
    return StandIn(BOX, RuleMeter(spill=0.3).measure(BOX.design(40, seed=0)))


def test_draws_scatter_around_the_rates_without_noise(stand_in: StandIn) -> None:
    points = BOX.random(12, seed=3)
    seen = np.mean([measured_rates(stand_in.draw(points, seed), "level") for seed in range(150)], axis=0)
    assert np.abs(seen - stand_in.rates(points, "level")).max() < 0.04
    one = measured_rates(stand_in.draw(points, 0), "level")
    assert np.abs(one - seen).max() > 0.06, "a single draw is noisy"
    assert np.array_equal(stand_in.rates(points, "level"), stand_in.level_rates(points))


def test_a_setting_is_measured_alike_by_one_seed_in_whatever_company(stand_in: StandIn) -> None:
    points = BOX.random(6, seed=4)
    first = stand_in.source(7).measure(points)
    again = stand_in.source(7).measure(points[[4, 1]])
    other = stand_in.source(8).measure(points)
    assert first.said is not None and again.said is not None and other.said is not None
    assert np.array_equal(first.said[[4, 1]], again.said) and not np.array_equal(first.said, other.said)
    assert np.allclose(first.scores.sums[[4, 1]], again.scores.sums, rtol=1e-12)


def test_likelihoods_are_off_by_as_much_as_a_left_out_setting() -> None:
    box = BOX
    noisy = RuleMeter().measure(box.design(40, seed=0))
    noisy.scores.sums[...] += np.random.default_rng(0).normal(scale=0.5, size=noisy.scores.sums.shape)
    made = StandIn(box, noisy)
    points = box.random(300, seed=1)
    off = made.draw(points, 0).scores.implicit() - made.rewards(points)
    assert np.sqrt(np.mean(off**2)) == pytest.approx(made.surface.fit.left_out_error, rel=0.05)
    assert not made.draw(np.zeros((1, 2)), 0).scores.implicit().any(), "the base does not change"


def test_without_replies_a_stand_in_knows_preferences_only() -> None:
    meter = RuleMeter()
    measured = meter.measure(BOX.design(20, seed=0))
    silent = StandIn(BOX, measured.__class__(measured.points, measured.rows, measured.scores, None))
    points = BOX.random(5, seed=2)
    drawn = silent.source(0).measure(points)
    assert drawn.said is None
    assert np.abs(measured_rates(drawn, "preference") - silent.rates(points, "preference")).mean() < 0.05


def test_a_pool_gives_the_nearest_setting_that_is_left() -> None:
    measured = RuleMeter(cost=0.1).measure(np.array([[0.0, 0.0], [0.5, 0.0], [1.0, 1.0]]))
    source = Pool(BOX, measured).source(0)
    first = source.measure(np.array([[0.4, 0.1], [0.45, 0.0]]))
    assert first.points.tolist() == [[0.5, 0.0], [0.0, 0.0]]
    assert first.said is not None and measured.said is not None
    assert np.array_equal(first.said, measured.said[[1, 0]]) and np.array_equal(
        first.scores.sums, measured.scores.sums[[1, 0]]
    )
    with pytest.raises(DataError, match="1 settings are left, not 2"):
        source.measure(np.zeros((2, 2)))


def test_a_pool_is_full_again_for_the_next_run_and_knows_what_it_has() -> None:
    grid = BOX.grid(3)
    measured = RuleMeter().measure(grid)
    pool = Pool(BOX, measured)
    for seed in (0, 1):
        assert pool.source(seed).measure(grid[[4]]).points.tolist() == [[0.0, 0.0]]
    assert pool.has(grid[2:5]) and not pool.has(BOX.grid(5))
    assert np.array_equal(pool.rates(grid[[5, 1]], "level"), measured_rates(measured, "level")[[5, 1]])
    assert pool.names == (DOMAINS, LEVELS)
