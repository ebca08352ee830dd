"""Methods on surfaces whose best settings are known."""

import sys

import numpy as np
import pytest

from alignvec.errors import ConfigError
from alignvec.solve.baselines import Method, compare, gp, grid, random, surface, tpe
from alignvec.solve.goals import Goal, all_goals
from alignvec.solve.oracle import Pool, StandIn
from alignvec.solve.search import objective
from alignvec.solve.solver import Solver
from tests.solve.synthetic import BOX, DOMAINS, LEVELS, RuleMeter

GOALS = all_goals(DOMAINS, LEVELS)
HARD = GOALS[2], GOALS[7]


@pytest.fixture(scope="module")
def stand_in() -> StandIn:
    return StandIn(BOX, RuleMeter(spill=0.3).measure(BOX.design(40, seed=0)))


def best(oracle: StandIn, goal: Goal, steps: int = 21) -> float:
    return float(objective(oracle.rates(BOX.grid(steps), "level"), goal, DOMAINS, LEVELS).max())


def test_a_whole_grid_finds_its_best_up_to_noise(stand_in: StandIn) -> None:
    found = compare(grid(7), stand_in, GOALS, by="level", budget=49, seed=0)
    assert found.alone.shape == (49, 9) and found.together is found.alone
    assert found.alone_used == found.together_used == 49
    short = [best(stand_in, goal, 7) - value for goal, value in zip(GOALS, found.alone[-1], strict=True)]
    assert min(short) >= 0 and np.mean(short) < 0.1
    assert found.alone[-1].mean() > found.alone[0].mean() + 0.2


def test_a_budget_cuts_a_grid_and_seeds_order_it_anew(stand_in: StandIn) -> None:
    short, whole, other = (
        compare(grid(5), stand_in, HARD, by="level", budget=budget, seed=seed)
        for budget, seed in ((10, 0), (25, 0), (25, 1))
    )
    assert np.array_equal(short.alone, whole.alone[:10]) and short.together_used == 10
    assert not np.array_equal(whole.alone[:10], other.alone[:10])


@pytest.mark.parametrize("method", [random(), tpe(), gp()])
def test_a_method_is_the_same_with_the_same_seed(method: Method, stand_in: StandIn) -> None:
    first, again, other = (
        compare(method, stand_in, HARD[:1], by="level", budget=14, seed=seed).alone for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("method", [tpe(), gp()])
def test_optuna_measures_for_each_goal_and_gets_better(method: Method, stand_in: StandIn) -> None:
    found = compare(method, stand_in, HARD, by="level", budget=25, seed=0)
    assert found.alone_used == 25 and found.together_used == 50
    assert found.together.shape == (50, 2)
    assert np.isnan(found.together[0]).all(), "before each goal has one evaluation, not all have a belief"
    assert np.array_equal(found.together[1::2], found.alone)
    assert np.array_equal(found.together[2::2], found.alone[:-1])
    drawn = compare(random(), stand_in, HARD, by="level", budget=25, seed=0)
    assert found.alone[-1].mean() > drawn.alone[-1].mean() and found.alone[-1].mean() > found.alone[9].mean()


def test_optuna_asks_for_settings_of_the_box_once_each() -> None:
    meter = RuleMeter(spill=0.3)
    pool = Pool(BOX, meter.measure(BOX.grid(5)))
    found = compare(tpe(), pool, HARD[:1], by="level", budget=25, seed=0)
    top = objective(pool.rates(BOX.grid(5), "level"), HARD[0], DOMAINS, LEVELS).max()
    assert found.alone[-1, 0] == top, "25 settings of 25 are all of the pool"
    assert (np.diff(found.alone[:, 0]) >= 0).all(), "in a pool what is seen is what counts"


def test_our_solver_comes_near_the_best_of_every_goal_with_one_set_of_settings(stand_in: StandIn) -> None:
    found = compare(surface(12), stand_in, GOALS, by="level", budget=26, seed=0)
    assert 13 <= found.together_used <= 26 and 13 <= found.alone_used <= 13 + 3
    short = [best(stand_in, goal) - value for goal, value in zip(GOALS, found.together[-1], strict=True)]
    assert np.mean(short) < 0.12
    assert np.isfinite(found.together).all()


def test_our_method_is_the_solver(stand_in: StandIn) -> None:
    solver = Solver(stand_in.source(1))  # type: ignore[arg-type]
    solver.explore(12, seed=1)
    points = np.array([BOX.point(one.knobs) for one in solver.solve(HARD, budget=26)])
    rates = stand_in.rates(points, "level")
    solved = [objective(rates[[i]], goal, DOMAINS, LEVELS)[0] for i, goal in enumerate(HARD)]
    found = compare(surface(12), stand_in, HARD, by="level", budget=26, seed=1)
    assert found.together[-1].tolist() == solved and found.together_used == solver.evaluations


def test_our_solver_chooses_from_a_pool(stand_in: StandIn) -> None:
    pool = Pool(BOX, RuleMeter(spill=0.3).measure(BOX.grid(5)))
    found = compare(surface(8), pool, GOALS[:3], by="preference", budget=15, seed=0)
    known = pool.rates(BOX.grid(5), "preference")
    tops = [objective(known, goal, DOMAINS, LEVELS).max() for goal in GOALS[:3]]
    assert (found.together[-1] <= np.array(tops) + 1e-12).all() and found.together_used <= 15
    assert np.mean(np.array(tops) - found.together[-1]) < 0.1


def test_without_optuna_its_extra_is_named(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'alignvec\[solve\]'"):
        compare(tpe(), stand_in, HARD[:1], by="level", budget=2, seed=0)
