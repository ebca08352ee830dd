"""Goals on a meter whose rule is known."""

import numpy as np
import pytest

from alignvec.errors import ConfigError
from alignvec.solve.behaviour import Behaviour, together
from alignvec.solve.box import Axis, Box
from alignvec.solve.goals import all_goals, parse_goals
from alignvec.solve.search import objective, reached, search
from alignvec.solve.solver import Kind, Solver, measured_rates
from tests.solve.synthetic import BOX, DOMAINS, LEVELS, ROWS, RuleMeter


def solver(spill: float = 0.0, by: Kind = "level", settings: int = 30) -> tuple[Solver, RuleMeter]:
    meter = RuleMeter(spill)
    made = Solver(meter, by)  # type: ignore[arg-type]
    made.explore(settings, seed=0)
    return made, meter


def test_rates_are_read_off_where_nothing_was_measured() -> None:
    made, meter = solver(spill=0.4)
    assert made.measured is not None
    behaviour = Behaviour(BOX, made.measured)
    unseen = BOX.random(30, seed=5)
    truth = measured_rates(meter.measure(unseen), "preference")
    assert np.abs(behaviour.preference_rates(unseen) - truth).mean() < 0.03
    assert np.abs(behaviour.level_rates(unseen) - truth).mean() < 0.1
    assert behaviour.level_rates(unseen).sum(axis=2) == pytest.approx(1.0)


@pytest.mark.parametrize("by", ["level", "preference"])
def test_every_goal_without_spillover_is_reached_where_it_was_measured(by: Kind) -> None:
    made, meter = solver(by=by)
    solved = made.solve(all_goals(DOMAINS, LEVELS))
    assert len(solved) == 9 and all(one.reached["0.6"] for one in solved)
    for one in solved:
        found = measured_rates(RuleMeter().measure(np.array([BOX.point(one.knobs)])), by)[0]
        for i, domain in enumerate(DOMAINS):
            assert one.measured[domain][one.goal[domain]].value == found[i, LEVELS.index(one.goal[domain])] >= 0.6
        assert one.blocked_by is None
    assert len(meter.asked) == len(set(meter.asked)), "no setting was measured twice"


def test_a_goal_that_spillover_blocks_is_said_to_be() -> None:
    made, _ = solver(spill=1.0)  # both knobs turn both domains, so they cannot differ
    (solved,) = made.solve([parse_goals(["medical=expert,legal=avoidance"], DOMAINS, LEVELS)])
    assert not solved.reached["0.6"] and not solved.reached["0.5"]
    assert solved.blocked_by is not None
    assert solved.blocked_by.startswith("spillover between") and "is given up" in solved.blocked_by


def test_a_level_that_its_own_knob_cannot_reach_is_said_to_be() -> None:
    weak = Box((Axis("medical", -1.0, 0.2, True), Axis("legal", -1.0, 1.0, True)))
    made = Solver(RuleMeter(box=weak))  # type: ignore[arg-type]
    made.explore(30, seed=0)
    (solved,) = made.solve([parse_goals(["medical=expert,legal=avoidance"], DOMAINS, LEVELS)])
    assert solved.blocked_by == "medical=expert is not reached in this range of the knobs even alone"


def test_spillover_is_compensated_where_it_can_be() -> None:
    made, _ = solver(spill=0.3)
    (solved,) = made.solve([parse_goals(["medical=expert,legal=generic"], DOMAINS, LEVELS)])
    assert solved.reached["0.6"] and solved.knobs["medical"] > 0 > solved.knobs.get("legal", 0.0) - 0.35


def test_the_budget_holds() -> None:
    made, meter = solver(spill=0.5, settings=8)
    made.solve(all_goals(DOMAINS, LEVELS), budget=11)
    assert len(meter.asked) <= 11


def test_a_weight_moves_the_balance() -> None:
    rates = np.array([[[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]], [[0.7, 0.3, 0.0], [0.75, 0.25, 0.0]]])
    even = parse_goals(["medical=avoidance,legal=avoidance"], DOMAINS, LEVELS)
    medical = parse_goals(["medical=avoidance,legal=avoidance"], DOMAINS, LEVELS, ["medical=3"])
    assert objective(rates, even, DOMAINS, LEVELS).argmax() == 1
    assert objective(rates, medical, DOMAINS, LEVELS).argmax() == 0


@pytest.mark.parametrize(
    ("rate", "verdict"), [([0.6, 0.4, 0.0], True), ([0.59, 0.41, 0.0], False), ([0.6, 0.0, 0.6], False)]
)
def test_a_goal_is_reached_by_the_highest_rate_and_enough_of_it(rate: list[float], verdict: bool) -> None:
    goal = parse_goals(["medical=avoidance"], DOMAINS, LEVELS)
    assert reached(np.array([rate, [1.0, 0.0, 0.0]]), goal, DOMAINS, LEVELS) == verdict


def test_the_search_is_exhaustive_and_then_finer() -> None:
    made, _ = solver(spill=0.2)
    assert made.measured is not None
    behaviour = Behaviour(BOX, made.measured)
    goal = parse_goals(["medical=expert,legal=avoidance"], DOMAINS, LEVELS)
    best = objective(behaviour.level_rates(BOX.grid(41)), goal, DOMAINS, LEVELS).max()
    assert search(behaviour, goal, behaviour.level_rates).objective >= best - 1e-6


def test_measurements_are_put_together_without_repeats() -> None:
    meter = RuleMeter()
    points = BOX.design(6, seed=0)
    whole = together([meter.measure(points[:4]), meter.measure(points[2:])])
    direct = meter.measure(points)
    assert whole.points.tolist() == points.tolist() and np.array_equal(whole.scores.sums, direct.scores.sums)
    assert whole.said is not None and np.array_equal(whole.said, direct.said)  # type: ignore[arg-type]


def test_nothing_measured_and_nothing_said_are_told() -> None:
    with pytest.raises(ConfigError, match="explore first"):
        Solver(RuleMeter()).solve(all_goals(DOMAINS, LEVELS))  # type: ignore[arg-type]
    made, _ = solver()
    assert made.measured is not None and len(ROWS) == 40
    silent = made.measured.__class__(made.measured.points, ROWS, made.measured.scores, None)
    with pytest.raises(ConfigError, match="no replies"):
        measured_rates(silent, "level")
