"""What does it cost to turn a dense knob?

Rebuilding every weight from the pristine base, against the least that could be done: `torch.add(base, delta, alpha=λ,
out=w)` summed over the same tensors. Both in one process, in turn. Ends in one JSON line; the ratio is of medians.
"""

import argparse
import json
import statistics
import time

import torch

from alignvec import models
from alignvec.merge.inplace import InplaceKnob
from alignvec.provenance import provenance
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.vector import Part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = models.load("demo").model
    weights = dict(model.named_parameters())
    torch.manual_seed(0)
    deltas = {name: torch.randn_like(w) * 1e-3 for name, w in weights.items() if w.ndim == 2}
    base = {name: weights[name].detach().clone() for name in deltas}
    knob = InplaceKnob(weights, [Part("random", {name: DenseDelta(d) for name, d in deltas.items()}, 0)])

    def floor(value: float) -> None:
        with torch.no_grad():
            for name, delta in deltas.items():
                torch.add(base[name], delta, alpha=value, out=weights[name])

    times: dict[str, list[float]] = {"torch.add": [], "knob": []}
    for round_number in range(arguments.rounds + 1):
        value = 0.1 * (round_number + 1)
        for name, turn in (("torch.add", floor), ("knob", lambda v: knob.turn([v]))):
            start = time.perf_counter()
            turn(value)
            if round_number:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    knob.restore()
    median = {name: statistics.median(values) for name, values in times.items()}
    ratios = sorted(b / a for a, b in zip(times["torch.add"], times["knob"], strict=True))
    print(
        json.dumps(
            {
                "benchmark": "knob_turn",
                "ratio": round(median["knob"] / median["torch.add"], 3),
                "ratio_by_round": [round(r, 3) for r in ratios],
                "goal": 1.3,
                "seconds": {name: round(value, 4) for name, value in median.items()},
                "parameters": sum(d.numel() for d in deltas.values()),
                "threads": arguments.threads,
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    main()
