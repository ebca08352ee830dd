"""Pictures of solved goals."""

from pathlib import Path

import numpy as np
import pytest

from alignvec.solve.goals import all_goals, parse_goals
from alignvec.solve.plot import front, plot_goals, plot_pareto
from alignvec.solve.solver import Solver
from tests.solve.synthetic import DOMAINS, LEVELS, ROWS, RuleMeter


def test_the_front_is_what_no_other_point_beats_in_both() -> None:
    x, y = np.array([0.1, 0.5, 0.9, 0.5, 0.2, 0.9]), np.array([0.9, 0.6, 0.1, 0.7, 0.8, 0.05])
    assert front(x, y).tolist() == [0, 4, 3, 2]
    assert front(np.array([1.0, 1.0]), np.array([1.0, 1.0])).tolist() == [0]


@pytest.mark.parametrize("personas", [None, "only"])
def test_goals_and_their_trade_offs_are_drawn(tmp_path: Path, personas: str | None) -> None:
    """Of one persona the intervals are unknown."""
    rows = tuple(row.model_copy(update={"persona": personas or row.persona}) for row in ROWS)
    solver = Solver(RuleMeter(spill=0.4, rows=rows))
    solver.explore(20, seed=0)
    plot_goals(solver.solve(all_goals(DOMAINS, LEVELS)), tmp_path / "goals.png", title="goals")
    solved = solver.solve([parse_goals(["medical=expert,legal=avoidance"], DOMAINS, LEVELS)])
    assert (solved[0].measured["legal"]["expert"].low is None) == (personas is not None)
    plot_pareto(*solver.fitted(), solved, tmp_path / "pareto.png")
    assert all((tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in ("goals.png", "pareto.png"))
