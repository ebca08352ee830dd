"""How long does it take to solve all 27 goals of three domains from one set of evaluations?

`alignvec solve --all --by preference` on the shipped queries: 41 settings are scored, then what the search wants
verified. With `--model` on that model and the shipped vectors; else on random weights of a shape, where the seconds of
scoring mean something and the goals do not (bytes are its tokens, so its rows are longer too). Ends in one JSON line.
"""

import argparse

from shapes import build, low_rank_vectors
from timing import emit, options

from alignvec import models
from alignvec.data.load import levels_of, load_rows, shipped_file
from alignvec.progress import progress
from alignvec.solve.box import box_of
from alignvec.solve.goals import all_goals
from alignvec.solve.measure import Meter
from alignvec.solve.solver import Solver
from alignvec.steer.loading import load_knobbed
from alignvec.steer.model import KnobbedModel

DOMAINS = ("medical", "legal", "financial")


def knobbed(chosen: argparse.Namespace) -> KnobbedModel:
    if chosen.model:
        return load_knobbed(chosen.model, None, device=chosen.device)
    base = build(chosen.shape, device=chosen.device, seed=chosen.seed)
    vectors = low_rank_vectors(base, DOMAINS, 3 * chosen.rank, seed=chosen.seed)
    return KnobbedModel(base, vectors, allow_other_base=True)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", help=f"a base of the shipped vectors, such as {models.DEMO}; default: --shape")
    parser.add_argument("--rank", type=int, default=16, help="of each random vector")
    parser.add_argument("--queries", type=int, default=8, help="of each domain")
    parser.add_argument("--settings", type=int, default=40)
    parser.add_argument("--budget", type=int, default=53, help="most settings, with those that are verified")
    chosen = parser.parse_args()
    model = knobbed(chosen)
    rows = [row for name in DOMAINS for row in load_rows(shipped_file(name), split="validation", limit=chosen.queries)]
    cards = {name: model.vectors[name].card for name in DOMAINS}
    meter = Meter(model, box_of(cards), rows, data="benchmark")
    solver = Solver(meter, by="preference")
    goals = all_goals(DOMAINS, levels_of(rows))
    with progress() as advance:
        solver.explore(chosen.settings, chosen.seed, advance)
        solved = solver.solve(goals, budget=chosen.budget, advance=advance)
    total = meter.scoring.seconds + solver.fitting + solver.searching
    emit(
        "solve_27",
        chosen,
        seconds={
            "scoring": round(meter.scoring.seconds, 3),
            "fitting": round(solver.fitting, 3),
            "searching": round(solver.searching, 3),
            "total": round(total, 3),
        },
        goals=len(goals),
        reached=sum(one.reached["0.5"] for one in solved) if chosen.model else None,
        settings_measured=solver.evaluations,
        queries_scored=meter.scoring.made,
    )


if __name__ == "__main__":
    main()
