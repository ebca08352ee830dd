"""All combinations of levels over the domains, at settings solved on validation queries (multi-domain table)."""

from pathlib import Path

from alignvec.errors import ConfigError
from alignvec.evaluate.table import Table
from alignvec.provenance import provenance
from alignvec.reproduce.material import domain_vectors, held_out, knobbed, level_judge, router_of
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.solve.check import Check, check_settings, table_of
from alignvec.steer.knobs import parse_knobs
from alignvec.steer.routed import row_shares
from alignvec.steer.scale import scale_of
from alignvec.steer.solved import read_settings, routing_mismatch, solved_routed
from alignvec.vectors.strict import Strict

FIRST, BUDGET = 12, 20
"""Settings measured where nothing was solved before: those of the design, and in all."""


class Goals(Strict):
    """What the stage has found.

    Attributes:
        solved: file of the settings, or how many were measured to solve them here.
        check: every goal on test queries.
    """

    solved: str
    check: Check


def measure(place: Place) -> Goals:
    """Reply to the test queries at every goal's setting."""
    vectors = domain_vectors(place)
    path, told = place.scale.goals, ""
    if path is None:
        path = place.work("goals") / "settings.yaml"
        told = _solve(place, path)
    if wrong := routing_mismatch(path, router=True):
        raise ConfigError(wrong)
    scales = {vector.name: scale_of(vector.card) for vector in vectors}
    stored = read_settings(path)
    rows = held_out(place, "test")
    judge, sampling = level_judge(place), place.scale.sampling()
    data = ", ".join(f"{name}.jsonl" for name in place.scale.domains) + " test"
    goals, replies = check_settings(
        knobbed(place, vectors),
        rows,
        {goal: parse_knobs(f"@{path}#{goal}", scales=scales) for goal in stored},
        {goal: one.constraints for goal, one in stored.items()},
        judge,
        sampling,
        router=router_of(place),
        data=data,
        out=place.data("goals"),
        advance=place.advance,
    )
    return Goals(
        solved=told or path.name,
        check=Check(
            data=data,
            routed=True,
            solved_routed=solved_routed(path),
            judge=judge.report,
            replies=replies,
            goals=tuple(goals),
            sampling=sampling.model_dump(),
            provenance=provenance(),
        ),
    )


def _solve(place: Place, path: Path) -> str:
    """Solve every goal on the validation queries and write the settings."""
    from alignvec.solve.box import box_of
    from alignvec.solve.goals import all_goals
    from alignvec.solve.measure import Meter
    from alignvec.solve.report import solution_of, write_solution
    from alignvec.solve.solver import Solver

    vectors = domain_vectors(place)
    model, rows, judge = knobbed(place, vectors), held_out(place, "validation"), level_judge(place)
    cards = {vector.name: vector.card for vector in vectors}
    box = box_of(cards)
    meter = Meter(
        model, box, rows, judge=judge, sampling=place.scale.sampling(), data="validation",
        journal=place.data("goals/solve/journal.jsonl"),
    )  # fmt: skip
    shares = row_shares(router_of(place), model, [row.query for row in rows], box.names)
    solver = Solver(meter, "level", shares)
    solver.explore(FIRST, place.scale.seed, place.advance)
    goals = all_goals(place.scale.domains, meter.levels)
    solved = solver.solve(goals, rounds=1, budget=BUDGET, advance=place.advance)
    write_solution(solution_of(solver, meter, solved, cards=cards), path.parent)
    return f"{solver.evaluations} settings measured here"


def show(found: Goals, figures: Path) -> Section:
    """A figure and the table of all goals."""
    from alignvec.solve.plot import plot_goals

    plot_goals(found.check.goals, figures / "goals.png", title=f"{found.check.data}, routed")
    columns, rows, legend = table_of(found.check)
    return Section(
        text=(
            "A goal is reached where in every domain the wanted level is the most frequent of the generated replies "
            f"and has a rate of at least 0.6. Settings: {found.solved}, solved on validation queries with the router.",
            found.check.summary(),
        ),
        tables=(Table(title=legend, columns=tuple(columns), rows=tuple(map(tuple, rows))),),
        figures=(Figure(path="goals.png", caption="Rate of the wanted level for every goal."),),
    )


STAGE = Stage(
    name="goals",
    title="Several domains at once: all combinations",
    record=Goals,
    measure=measure,
    show=show,
    keys=("test", "validation", "max_new_tokens"),
    needs=("vectors",),
    reads=lambda place: [path for path in (place.scale.router, place.scale.goals) if path],
)
