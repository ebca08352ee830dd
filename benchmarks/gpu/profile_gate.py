"""Do the two skinny products and the gate cost enough of a decode step to be worth a kernel of their own?

One decode step with and without a setting for every row, under torch's profiler: device time of the operators that
only the side path runs more of. `share` is the extra device time of a step over the step's without knobs; a
fused kernel is wanted above 0.05. `launches` tells how much of an eager step is Python instead. Ends in one JSON line.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from decode_mixed import NAMES, Decoding, check_turned, turned
from shapes import build, low_rank_vectors
from timing import emit, options, seconds
from torch.profiler import ProfilerActivity, profile

from alignvec.steer.model import KnobbedModel

FUSE_ABOVE = 0.05


def operators(step: Callable[[], Any], steps: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Device microseconds and calls a step, by operator (on a GPU by kernel)."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        if cuda:
            torch.cuda.synchronize(device)
    found = {}
    for event in profiler.key_averages():
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        if own and (not cuda or str(event.device_type).endswith("CUDA")):
            found[event.key] = {"microseconds": own / steps, "calls": event.count / steps}
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rank", type=int, default=64, help="of all vectors together")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    chosen = parser.parse_args()
    base = build(chosen.shape, device=chosen.device, seed=chosen.seed)
    knobbed = KnobbedModel(base, low_rank_vectors(base, NAMES, chosen.rank, seed=chosen.seed), allow_other_base=True)
    decoding = Decoding(base, chosen.batch, chosen.prompt, 2 * chosen.steps, chosen.seed)
    check_turned(decoding, knobbed, chosen.batch)
    found, wall = {}, {}
    for name, model in (("base", None), ("mixed", knobbed)):
        with turned(model, chosen.batch):
            decoding.rewind()
            decoding.step()  # warms up
            wall[name] = seconds(partial(many, decoding, chosen.steps - 1), base.device) / (chosen.steps - 1)
            found[name] = operators(decoding.step, chosen.steps, base.device)
    total = {name: sum(entry["microseconds"] for entry in kernels.values()) for name, kernels in found.items()}
    nothing = {"microseconds": 0.0, "calls": 0.0}
    extra = {
        key: {unit: round(entry[unit] - found["base"].get(key, nothing)[unit], 2) for unit in nothing}
        for key, entry in found["mixed"].items()
    }
    share = (total["mixed"] - total["base"]) / total["base"]
    emit(
        "profile_gate",
        chosen,
        share=round(share, 4),
        fuse=share > FUSE_ABOVE,
        device_microseconds_a_step={name: round(value, 1) for name, value in total.items()},
        wall_microseconds_a_step={name: round(value * 1e6, 1) for name, value in wall.items()},
        launches={name: round(sum(e["calls"] for e in kernels.values())) for name, kernels in found.items()},
        most_extra=dict(sorted(extra.items(), key=lambda item: -item[1]["microseconds"])[:20]),
    )


def many(decoding: Decoding, steps: int) -> None:
    for _ in range(steps):
        decoding.step()


if __name__ == "__main__":
    main()
