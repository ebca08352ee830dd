"""Cost of a goal: arithmetic by hand, files that lack something, and the search on a known rule."""

import json
from pathlib import Path

import pytest

from alignvec.errors import ConfigError, DataError
from alignvec.provenance import provenance
from alignvec.reproduce.cost.goal_cost import GoalCost, SearchSeconds, goal_cost, time_search
from alignvec.reproduce.cost.goal_records import Evaluations, Trained, read_evaluations, read_training
from alignvec.reproduce.cost.goal_report import plot_goal_cost, tables
from alignvec.solve.goals import all_goals
from alignvec.solve.report import Solution
from alignvec.solve.seconds import Phase, SolveSeconds
from alignvec.solve.surface import Fit
from tests.solve.synthetic import BOX, DOMAINS, LEVELS, RuleMeter


def cost(joint: float = 1200.0, vectors: float | None = None) -> GoalCost:
    return GoalCost(
        settings=40, evaluations=2000.0, estimated=False, search=SearchSeconds(fit=2.0, goals=(1.0, 4.0, 2.0, 3.0)),
        verified=1, joint=joint, vectors=vectors, machines={"search": "a"}, provenance=provenance(),
    )  # fmt: skip


def test_the_arithmetic_is_that_of_the_formula() -> None:
    one = cost()
    assert one.search.median == 2.5 and one.evaluation == 50.0
    assert one.further(verify=False) == 2.5 and one.further(verify=True) == 52.5
    assert one.first(verify=True) == 2054.5
    assert one.each_of(1, verify=True) == 2054.5
    assert one.each_of(27, verify=True) == pytest.approx((2054.5 + 26 * 52.5) / 27)
    assert one.cheaper(27, verify=True) == pytest.approx(1200 * 27 / (2054.5 + 26 * 52.5))
    assert one.each_of(10_000, verify=True) == pytest.approx(52.5, rel=0.01)
    told = one.formula()
    assert "2.500 + 1 x 50.0 = 52.5 s" in told and "2000 + 2.00 + 52.5 = 2054 s" in told and "1200 s" in told


def test_break_even_is_the_first_count_at_which_solving_costs_no_more() -> None:
    for one in (cost(), cost(joint=52.6), cost(joint=5000.0), cost(vectors=9000.0)):
        for vectors in (False, True) if one.vectors else (False,):
            k = one.break_even(verify=True, vectors=vectors)
            assert k is not None and one.cheaper(k, verify=True, vectors=vectors) >= 1 - 1e-12
            assert k == 1 or one.cheaper(k - 1, verify=True, vectors=vectors) < 1
    assert cost(joint=50.0).break_even(verify=True) is None
    with pytest.raises(ConfigError, match="training seconds are not known"):
        cost().first(verify=True, vectors=True)
    assert cost(vectors=9000.0).first(verify=True, vectors=True) == 11054.5


def test_tables_fit_a_terminal_and_the_picture_is_drawn(tmp_path: Path) -> None:
    for one in (cost(), cost(vectors=9000.0).model_copy(update={"machines": {"a": "x", "b": "y"}})):
        for table in tables(one):
            widths = [max(len(row[i]) for row in (table.columns, *table.rows)) for i in range(len(table.columns))]
            assert sum(widths) + 2 * (len(widths) - 1) <= 80 and len(table.title) <= 80, table
        plot_goal_cost(one, tmp_path / "goal.png")
    assert tables(cost())[1].rows[1][:3] == ("further, verified", "52.5", "22.9")
    assert len(tables(cost())) == 3 and len(tables(one)) == 4


def test_the_search_is_timed_goal_by_goal() -> None:
    ticks = iter(range(100))
    measured = RuleMeter().measure(BOX.design(30, 0))
    found = time_search(measured, BOX, all_goals(DOMAINS, LEVELS)[:3], clock=lambda: float(next(ticks)))
    assert found == SearchSeconds(fit=1.0, goals=(1.0, 1.0, 1.0)) and next(ticks) == 8
    with pytest.raises(ConfigError, match="no goals"):
        time_search(measured, BOX, [])


SECONDS = SolveSeconds(
    scoring=Phase(seconds=100.0, made=10), generating=Phase(seconds=150.0, made=10, reused=10), fitting=1.0,
    searching=1.0,
)  # fmt: skip


def write_solution(path: Path, seconds: SolveSeconds | None) -> Path:
    solution = Solution(
        by="level", data="d", box={"m": (-1.0, 1.0)}, domains={"m": "m"}, levels=LEVELS, routed=False, evaluations=20,
        fit=Fit(2, 0.1, 20, 0.1, 0.5), judge=None, goals=(), sampling={}, seconds=seconds, provenance=provenance(),
    )  # fmt: skip
    path.write_text(solution.model_dump_json(exclude={"seconds"} if seconds is None else None))
    return path


def test_records_are_put_together(tmp_path: Path) -> None:
    solve = write_solution(tmp_path / "solve.json", SECONDS)
    for name, seconds in (("joint", 900.5), ("one", 10), ("two", 20)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"seconds": seconds, "provenance": {"machine": name}}))
    search = SearchSeconds(fit=1.0, goals=(2.0,))
    joint = read_training(tmp_path / "joint.json", of="it")
    vectors = {name: read_training(tmp_path / f"{name}.json", of="it") for name in ("one", "two")}
    found = goal_cost(read_evaluations(solve), [joint], search, vectors=vectors, verified=2)
    assert (found.settings, found.evaluations, found.estimated) == (20, 400.0, True)
    assert (found.joint, found.vectors, found.verified) == (900.5, 30.0, 2)
    assert found.machines["joint training"] == "joint" and found.further(verify=True) == 2.0 + 2 * 20.0
    assert found.machines["two"] == "two"
    assert GoalCost.model_validate_json(found.model_dump_json()) == found


def test_joint_runs_count_with_their_mean_and_all_their_machines() -> None:
    evaluations = Evaluations(settings=2, seconds=10.0, estimated=False, machine="here")
    search = SearchSeconds(fit=1.0, goals=(2.0,))
    runs = [Trained(seconds=float(seconds), machine=machine) for seconds, machine in ((10, "a"), (20, "b"), (60, "a"))]
    found = goal_cost(evaluations, runs, search)
    assert (found.joint, found.machines["joint training"], found.vectors) == (30.0, "a, b", None)
    with pytest.raises(ConfigError, match="no joint training run"):
        goal_cost(evaluations, [], search)
    with pytest.raises(ConfigError, match="-1 settings"):
        goal_cost(evaluations, runs, search, verified=-1)


def test_what_is_missing_is_named_with_what_to_run(tmp_path: Path) -> None:
    solve, joint = tmp_path / "solve.json", tmp_path / "run.json"
    with pytest.raises(DataError, match=r"no file at .*; make it: solve again .*alignvec solve --all --out"):
        read_evaluations(solve)
    with pytest.raises(DataError, match="has no seconds, as it was written before"):
        read_evaluations(write_solution(solve, None))
    found_all = SECONDS.model_copy(update={"scoring": Phase(reused=3)})
    with pytest.raises(DataError, match="nothing was timed; solve again"):
        read_evaluations(write_solution(solve, found_all))
    for broken in ("", "[]", "{", '{"seconds": NaN}', '{"seconds": 0}', '{"seconds": true}', '{"seconds": "5"}', "{}"):
        joint.write_text(broken)
        with pytest.raises(DataError, match="train all of it: alignvec train RECIPE --out DIR"):
            read_training(joint, of="all of it")
    solve.write_text('{"by": "level"}')
    with pytest.raises(DataError, match=r"solve.json: evaluations: Field required; solve again"):
        read_evaluations(solve)
