"""Goals on a meter whose rule is known."""

from dataclasses import replace

import numpy as np
import pytest

from alignvec.errors import ConfigError
from alignvec.solve.behaviour import Behaviour, together
from alignvec.solve.box import Axis, Box, Points
from alignvec.solve.goals import all_goals, parse_constraints, parse_goals
from alignvec.solve.search import objective, reached, search
from alignvec.solve.solver import Kind, Solver, measured_rates
from tests.solve.synthetic import BOX, DOMAINS, LEVELS, ROWS, RuleMeter


def solver(spill: float = 0.0, by: Kind = "level", settings: int = 30) -> tuple[Solver, RuleMeter]:
    meter = RuleMeter(spill)
    made = Solver(meter, by)
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
    assert solved.blocked_by.startswith("spillover between") and "would be reached if" in solved.blocked_by


def test_a_level_that_its_own_knob_cannot_reach_is_said_to_be() -> None:
    weak = Box((Axis("medical", -1.0, 0.2, True), Axis("legal", -1.0, 1.0, True)))
    made = Solver(RuleMeter(box=weak))
    made.explore(30, seed=0)
    (solved,) = made.solve([parse_goals(["medical=expert,legal=avoidance"], DOMAINS, LEVELS)])
    assert solved.blocked_by == "medical=expert is not reached in this range of the knobs even alone"


def test_spillover_is_compensated_where_it_can_be() -> None:
    """At spill .6 the medical knob alone takes legal along; only an opposite turn of the legal one keeps it generic."""
    made, meter = solver(spill=0.6)
    (solved,) = made.solve([parse_goals(["medical=expert,legal=generic"], DOMAINS, LEVELS)])
    assert solved.reached["0.6"] and solved.knobs["medical"] > 0 > solved.knobs["legal"]
    alone = measured_rates(meter.measure(np.array([BOX.point({"medical": 1.0})])), "level")[0]
    assert alone[1, LEVELS.index("generic")] < 0.5


def test_a_router_frees_what_spillover_blocks_and_measures_the_box_no_further() -> None:
    """Both knobs turn both domains alike, so without a router the domains cannot differ."""
    meter = RuleMeter(spill=1.0)
    own = np.array([[row.domain == domain for domain in DOMAINS] for row in ROWS], dtype=float)
    made = Solver(meter, shares=own)
    made.explore(30, seed=0)
    solved = made.solve(all_goals(DOMAINS, LEVELS))
    assert all(one.reached["0.6"] for one in solved) and len(meter.asked) == 31
    assert made.measured is not None and made.tried is not None
    assert made.evaluations == 30 + len(made.tried.points) and len(made.tried.points) <= 1 + 9


def test_rates_of_a_routed_model_are_read_off_what_was_not_routed() -> None:
    made, meter = solver(spill=0.4)
    assert made.measured is not None
    shares = np.random.default_rng(0).choice([0.0, 0.25, 1.0], size=(len(ROWS), 2))
    unseen = BOX.random(30, seed=5)
    truth = measured_rates(meter.measure(unseen, shares=shares), "preference")
    assert np.abs(Behaviour(BOX, made.measured, shares).preference_rates(unseen) - truth).mean() < 0.03
    assert np.abs(Behaviour(BOX, made.measured).preference_rates(unseen) - truth).mean() > 0.06


def test_a_constraint_is_kept_or_named_as_what_blocks_the_goal() -> None:
    """Both knobs at 1 cost a factor of e^0.4; a goal needs about 0.5 of each."""
    wanted = parse_goals(["medical=expert,legal=expert"], DOMAINS, LEVELS)
    for bound, kept in (("1.35", True), ("1.05", False)):
        meter = RuleMeter(cost=0.2)
        made = Solver(meter)
        made.explore(30, seed=0)
        goal = replace(wanted, constraints=parse_constraints([f"perplexity<={bound}"], DOMAINS, LEVELS))
        (solved,) = made.solve([goal])
        assert solved.perplexity == pytest.approx(np.exp(0.2 * sum(abs(v) for v in solved.knobs.values())))
        assert solved.perplexity is not None and solved.kept and solved.perplexity <= float(bound)
        assert solved.reached["0.6"] == kept
        assert kept or (solved.blocked_by or "").startswith("the constraints")


def test_a_bound_on_a_rate_is_kept() -> None:
    made, _ = solver(spill=0.4)
    free = parse_goals(["medical=expert"], DOMAINS, LEVELS)
    bound = replace(free, constraints=parse_constraints(["legal=expert<=0.1"], DOMAINS, LEVELS))
    loose, strict = made.solve([free, bound])
    assert strict.kept and strict.measured["legal"]["expert"].value <= 0.1 and strict.reached["0.6"]
    assert loose.constraints == [] and strict.constraints == ["legal=expert<=0.1"]


def test_what_a_knob_changes_alone_is_told_with_its_setting() -> None:
    made, meter = solver(spill=0.5)
    (solved,) = made.solve([parse_goals(["medical=expert"], DOMAINS, LEVELS)])
    for name, value in solved.knobs.items():
        rates = measured_rates(meter.measure(np.array([BOX.point({name: value}), [0.0, 0.0]])), "preference")
        for i, domain in enumerate(DOMAINS):
            assert solved.spillover[name][domain] == pytest.approx(np.abs(rates[0, i] - rates[1, i]).mean(), abs=0.1)


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


def test_six_knobs_are_searched_in_a_moment_too() -> None:
    """A quadratic surface over six knobs, whose best setting is known."""
    box = Box(tuple(Axis(f"k{i}", -1.0, 1.0, False) for i in range(6)))
    best = np.array([0.3, -0.7, 0.1, 0.9, -0.2, 0.5])

    class Bowl:
        domains, levels = DOMAINS, LEVELS

        def level_rates(self, points: Points) -> np.ndarray:
            near = 1.0 - ((points - best) ** 2).mean(axis=1)
            return np.stack([np.stack([0 * near, 1 - near, near], axis=1)] * 2, axis=1)

    bowl = Bowl()
    bowl.box = box  # type: ignore[attr-defined]
    found = search(bowl, parse_goals(["medical=expert"], DOMAINS, LEVELS), bowl.level_rates)  # type: ignore[arg-type]
    assert np.abs(np.array(found.point) - best).max() < 0.05
    assert len(box.design(40, seed=0)) == 40 and len(np.unique(box.design(40, seed=0), axis=0)) == 40


def test_measurements_are_put_together_without_repeats() -> None:
    meter = RuleMeter()
    points = BOX.design(6, seed=0)
    whole = together([meter.measure(points[:4]), meter.measure(points[2:])])
    direct = meter.measure(points)
    assert whole.points.tolist() == points.tolist() and np.array_equal(whole.scores.sums, direct.scores.sums)
    assert whole.said is not None and np.array_equal(whole.said, direct.said)  # type: ignore[arg-type]


def test_nothing_measured_and_nothing_said_are_told() -> None:
    with pytest.raises(ConfigError, match="explore first"):
        Solver(RuleMeter()).solve(all_goals(DOMAINS, LEVELS))
    made, _ = solver()
    assert made.measured is not None and len(ROWS) == 40
    silent = made.measured.__class__(made.measured.points, ROWS, made.measured.scores, None)
    with pytest.raises(ConfigError, match="no replies"):
        measured_rates(silent, "level")
