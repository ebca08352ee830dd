"""Tables of solved and of checked goals: as wide as a terminal, with headers that say what stands below them."""

from itertools import product

import pytest

from alignvec.cli.common import print_table
from alignvec.solve.check import Check, CheckedGoal, table_of
from alignvec.solve.report import Solution, rows_of
from alignvec.solve.solver import Kind, SolvedGoal
from alignvec.vectors.strict import Interval

DOMAINS = ("medical", "legal", "financial")
LEVELS = ("avoidance", "generic", "expert")
KNOBS = dict.fromkeys(sorted(DOMAINS), -0.5)
MEASURED = {d: {v: Interval(value=i / 10, low=0.0, high=1.0) for i, v in enumerate(LEVELS, start=4)} for d in DOMAINS}


def solution(by: Kind = "level", perplexity: float | None = None) -> Solution:
    """Every combination of levels; only what the table reads."""
    goals = tuple(
        SolvedGoal.model_construct(
            goal=dict(zip(DOMAINS, levels, strict=True)), knobs=KNOBS, measured=MEASURED, perplexity=perplexity,
            reached={"0.6": levels[0] == "expert"}, spillover={"legal": {"medical": 0.2, "legal": 0.9}},
        )
        for levels in product(LEVELS, repeat=3)
    )  # fmt: skip
    return Solution.model_construct(
        by=by, box=dict.fromkeys(KNOBS, (-1.0, 1.0)), domains={d: d for d in DOMAINS}, goals=goals
    )


@pytest.mark.parametrize("by", ["level", "preference"])
def test_a_table_of_three_domains_fits_a_terminal_and_names_every_column(
    by: Kind, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns, rows, legend = rows_of(solution(by, 1.05))
    print_table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines) and max(map(len, [*lines, *legend.splitlines()])) <= 80
    assert lines[0].split() == ["medical", "legal", "financial", "λ:", "financial", "met", "at"]
    assert lines[1].split() == ["level,", "rate"] * 3 + ["legal", "medical", "spill", "0.6"]
    assert lines[2].split() == ["avoidance", "0.40"] * 3 + ["-0.50"] * 3 + ["20", "no"]
    assert lines[-1].split() == ["expert", "0.60"] * 3 + ["-0.50"] * 3 + ["20", "yes"]
    assert legend.startswith("rate: generated replies" if by == "level" else "rate: likeliest replies")
    assert "spill: points" in legend and "perplexity: of the texts" in legend
    assert "perplexity" not in rows_of(solution())[2]


def test_a_checked_goal_has_a_dash_for_a_domain_that_it_does_not_name() -> None:
    goals = tuple(
        CheckedGoal.model_construct(goal=goal, knobs={"legal": 1.0}, measured=MEASURED, reached={"0.6": False})
        for goal in ({"medical": "expert"}, {"legal": "generic"})
    )
    columns, rows, legend = table_of(Check.model_construct(goals=goals))
    assert columns == ("medical\nlevel, rate", "legal\nlevel, rate", "λ: legal", "met at\n0.6")
    assert rows == [("expert 0.60", "-", " 1.00", "no"), ("-", "generic 0.50", " 1.00", "no")]
    assert "rate: generated replies" in legend and len(legend) <= 80


def test_a_table_of_one_goal_has_its_domains_and_all_knobs() -> None:
    (one,) = [goal for goal in solution().goals if set(goal.goal.values()) == {"expert"}]
    single = solution().model_copy(update={"goals": (one.model_copy(update={"goal": {"legal": "expert"}}),)})
    columns, rows, _ = rows_of(single)
    assert columns == ("legal\nlevel, rate", "λ: financial\nlegal medical", "spill", "met at\n0.6")
    assert rows == [("expert 0.60", "-0.50 -0.50 -0.50", "20", "yes")]
