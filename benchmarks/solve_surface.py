"""How far is the response surface off at settings that it was not fitted to?

The surface is fitted to the journal of `alignvec solve --out`. Random settings, drawn evenly from the box, are measured
on the model into a journal of their own (`--held-out`; killed, the same command goes on where it was; once it is whole
no model is loaded). Ends in one JSON line: mean absolute error of preference and level rates over settings, domains
and levels, and how much of the latter a binomial draw alone would give.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from solving import add_options, at_least, holds, in_one_line, measured_at, set_up

from alignvec.provenance import provenance
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.replay import part
from alignvec.solve.surface_error import surface_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--held-out", type=Path, required=True, help="journal of the random settings")
    parser.add_argument("--settings", type=int, default=30, help="number of random settings")
    parser.add_argument("--seed", type=int, default=1, help="of the random settings")
    parser.add_argument("--by", choices=["level", "preference"], default="level", help="preference: no replies needed")
    chosen = parser.parse_args()
    at_least(chosen, settings=1, seed=0)
    setup = set_up(chosen, judged=chosen.by == "level")
    measured = setup.replay(chosen.journal)
    points = setup.box.random(chosen.settings, chosen.seed)
    fitted = part(measured, np.flatnonzero(~holds(measured, points)))
    unseen = measured_at(points, chosen.held_out, chosen, setup)
    behaviour = Behaviour(setup.box, fitted)
    error = surface_error(behaviour, unseen)
    print(
        json.dumps(
            {
                "benchmark": "solve_surface",
                **error.model_dump(),
                "queries_a_domain": {domain: int(fitted.of(domain).sum()) for domain in fitted.domains},
                "fit": vars(behaviour.surface.fit),
                "config": {name: str(value) for name, value in vars(chosen).items() if value is not None},
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    in_one_line(main)
