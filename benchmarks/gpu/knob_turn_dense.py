"""What does it cost to turn a dense knob, against the least that memory allows?

The least is to read base and delta and write the weights once, at the bandwidth that a copy reaches in the same run.
With the delta in float32, as vectors are loaded from a file, and in bfloat16; the result is checked against float64 on
a sample of rows first. Ends in one JSON line; `ratio` is seconds over the least, round by round.
"""

import argparse
import gc
from typing import Any

import torch
from shapes import build, dense_vector
from timing import copy_bandwidth, emit, in_turn, options, seconds

from alignvec.merge.inplace import InplaceKnob
from alignvec.models import BaseModel
from alignvec.reproduce.spread import Spread
from alignvec.vectors.vector import AlignmentVector

GOAL = 1.2
COEFFICIENT = 0.37
"""No number of few bits, so that a λ rounded to bfloat16 would be seen."""


def check(base: BaseModel, vector: AlignmentVector, knob: InplaceKnob) -> None:
    """Some rows of every tensor must be base + λΔ in float64, rounded once, up to one step at ties."""
    weights = dict(base.model.named_parameters())
    before = {name: weights[name][:8].detach().clone() for name in vector.positive}
    knob.turn([COEFFICIENT])
    for name, delta in vector.positive.items():
        exact = before[name].double() + COEFFICIENT * delta.rows(0, 8).double()
        wrong = (weights[name][:8] != exact.to(base.model.dtype)).float().mean()
        if not wrong < 1e-3:  # float32 sums may fall on the other side of a tie
            raise SystemExit(f"{name} is not the rounded sum: {float(wrong):.1%} of a sample differ")
    knob.restore()
    if any(not torch.equal(weights[name][:8], rows) for name, rows in before.items()):
        raise SystemExit("restoring the base has changed it")


def measure(base: BaseModel, kind: torch.dtype, chosen: argparse.Namespace) -> dict[str, Any]:
    """One result for deltas of a dtype."""
    weights = dict(base.model.named_parameters())
    vector = dense_vector(base, "dense", kind, seed=chosen.seed)
    knob = InplaceKnob(weights, vector.parts)
    check(base, vector, knob)
    count = sum(weights[name].numel() for name in vector.positive)
    moved = count * (2 * base.model.dtype.itemsize + kind.itemsize)
    bandwidth = copy_bandwidth(base.device)
    times = in_turn({"turn": lambda: knob.turn([COEFFICIENT]), "restore": knob.restore}, chosen.rounds, base.device)
    return {
        "delta": str(kind).removeprefix("torch."),
        "parameters": count,
        "ratio": Spread.of([s * bandwidth / moved for s in times["turn"]]).model_dump(),
        "seconds": Spread.of(times["turn"]).model_dump(),
        "restore_seconds": Spread.of(times["restore"]).model_dump(),
        "least_seconds": moved / bandwidth,
        "copy_gb_per_second": round(bandwidth / 1e9, 1),
        "first_turn_after_idle_seconds": seconds(lambda: knob.turn([-COEFFICIENT]), base.device),
    }


def main() -> None:
    parser = options(__doc__)
    chosen = parser.parse_args()
    base = build(chosen.shape, device=chosen.device, seed=chosen.seed)
    results = []
    for kind in (torch.float32, torch.bfloat16):
        results.append(measure(base, kind, chosen))
        gc.collect()
        if base.device.type == "cuda":
            torch.cuda.empty_cache()
    emit("knob_turn_dense", chosen, goal=GOAL, results=results)


if __name__ == "__main__":
    main()
