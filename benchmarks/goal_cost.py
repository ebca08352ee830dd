"""What does a new multi-domain goal cost by solving, and what by training one model jointly?

See `alignvec.reproduce.cost.goal_cost`. The search is timed here, on the surface of the settings in `--journal`;
seconds of the evaluations come from the solve.json beside it, those of joint training from a run.json. Tables go to
stderr; ends in one JSON line.
"""

import argparse
import json
from pathlib import Path

from solving import add_options, at_least, in_one_line, print_tables, set_up

from alignvec.files import write_text
from alignvec.reproduce.cost.goal_cost import goal_cost, time_search
from alignvec.reproduce.cost.goal_records import read_evaluations, read_training
from alignvec.reproduce.cost.goal_report import COUNTS, plot_goal_cost, tables
from alignvec.solve.goals import all_goals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--solve", type=Path, help="default: solve.json beside the journal")
    parser.add_argument("--joint", type=Path, required=True, help="run.json of a joint training run for one goal")
    parser.add_argument("--vector-run", type=Path, action="append", default=[], help="run.json of a vector; repeatable")
    parser.add_argument("--verified", type=int, default=1, help="settings measured to verify a goal")
    parser.add_argument("--limit", type=int, help="time the first N goals only")
    parser.add_argument("--out", type=Path, help="write the whole record (JSON)")
    parser.add_argument("--plot", type=Path, help="draw seconds a goal over the number of goals (PNG)")
    chosen = parser.parse_args()
    at_least(chosen, limit=1, verified=0)
    evaluations = read_evaluations(chosen.solve or chosen.journal.parent / "solve.json")
    joint = read_training(chosen.joint, of="all domains jointly for one goal")
    vectors = {str(path): read_training(path, of="the vector again") for path in chosen.vector_run}
    setup = set_up(chosen, judged=True)
    measured = setup.replay(chosen.journal)
    goals = all_goals(measured.domains, measured.scores.levels)[: chosen.limit]
    search = time_search(measured, setup.box, goals)
    result = goal_cost(evaluations, [joint], search, vectors=vectors, verified=chosen.verified)
    print_tables(tables(result))
    if chosen.out:
        write_text(chosen.out, result.model_dump_json(indent=1) + "\n")
    if chosen.plot:
        plot_goal_cost(result, chosen.plot)
    line = {
        "benchmark": "goal_cost",
        "times_cheaper": {
            "further, search alone": round(result.joint / result.further(verify=False), 2),
            "further, verified": round(result.joint / result.further(verify=True), 2),
            **{f"each of {count}, verified": round(result.cheaper(count, verify=True), 2) for count in COUNTS},
        },
        "break_even_goals": result.break_even(verify=True),
        "formula": result.formula().split("\n"),
        "config": json.loads(json.dumps(vars(chosen), default=str)),
        **result.model_dump(exclude={"provenance"}),
        **result.provenance.model_dump(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    in_one_line(main)
