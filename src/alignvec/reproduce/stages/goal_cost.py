"""What a new multi-domain goal costs: solving on measured settings against one joint training run."""

from pathlib import Path

from alignvec.errors import DataError
from alignvec.reproduce.cost.goal_cost import GoalCost, goal_cost, time_search, time_settings
from alignvec.reproduce.cost.goal_records import Trained
from alignvec.reproduce.cost.goal_report import plot_goal_cost, tables
from alignvec.reproduce.material import domain_vectors, held_out, knobbed, level_judge, router_of
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.solve.box import box_of
from alignvec.solve.goals import all_goals
from alignvec.solve.measure import Meter
from alignvec.solve.replay import read_journal, replay
from alignvec.steer.routed import row_shares

TIMED = 2
"""Settings that are measured anew to see what one takes."""


def measure(place: Place) -> GoalCost:
    """Time the search on the solver's journal, and the measuring of a few settings on the model."""
    runs = [
        Trained(seconds=run.seconds, machine=run.machine)
        for run in place.found("joint").runs
        if run.seconds is not None
    ]
    if not runs:
        raise DataError("no joint training run was timed from its first step; train them again: --again joint")
    vectors = domain_vectors(place)
    cards = {vector.name: vector.card for vector in vectors}
    rows, judge, box = held_out(place, "validation"), level_judge(place), box_of(cards)
    journal = place.scale.solved or place.data("goals/solve/journal.jsonl")
    if not journal.is_file():
        raise DataError(
            f"no journal of solved settings at {journal}; name the one of the settings in `goals` as `solved` in the "
            "scale, or leave `goals` out of it to solve them"
        )
    measured = replay(read_journal(journal), cards, rows, tokenizer=place.base.tokenizer, judge=judge)
    model = knobbed(place, vectors)
    shares = row_shares(router_of(place), model, [row.query for row in rows], box.names)
    goals = all_goals(measured.domains, measured.scores.levels)
    search = time_search(measured, box, goals, shares=shares)
    meter = Meter(model, box, rows, judge=judge, sampling=place.scale.sampling(), data="timed", journal=None)
    evaluations = time_settings(meter, len(measured.points), TIMED, seed=place.scale.seed, advance=place.advance)
    return goal_cost(evaluations, runs, search)


def show(found: GoalCost, figures: Path) -> Section:
    """Tables, the formula among them, and a figure."""
    plot_goal_cost(found, figures / "goal-cost.png")
    return Section(
        text=(
            f"Seconds of one setting were measured on {TIMED} settings, queries and replies included; the evaluations "
            f"are {found.settings} of such. The search is timed goal by goal. A verified goal's replies were generated "
            "and judged at its setting; joint training is counted without that, so it compares with the search alone.",
        ),
        tables=tuple(tables(found)),
        figures=(Figure(path="goal-cost.png", caption="Seconds a goal over the number of goals."),),
    )


STAGE = Stage(
    name="goal-cost",
    title="Cost of a new goal, against joint training",
    record=GoalCost,
    measure=measure,
    show=show,
    keys=("validation", "max_new_tokens"),
    needs=("vectors", "goals", "joint"),
    reads=lambda place: [path for path in (place.scale.router, place.scale.solved) if path],
)
