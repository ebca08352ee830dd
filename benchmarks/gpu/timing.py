"""What the GPU benchmarks share: options, timing that waits for the device, measured bandwidth, and the JSON line."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from shapes import SHAPES

from alignvec.provenance import provenance
from alignvec.reproduce.spread import Spread


def options(description: str | None) -> argparse.ArgumentParser:
    """Options that all have; on a machine without CUDA the CPU is used, which tries the script and measures nothing."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="8b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of work that is queued on the device, from an idle device to an idle device."""
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(
    regimes: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device, *, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of each regime, [rounds], run in turn so that whatever else happens hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in regimes}
    for number in range(rounds + warm_up):
        for name, run in regimes.items():
            found = seconds(run, device)
            if number >= warm_up:
                times[name].append(found)
    print({name: Spread.of(values).told(".4f") for name, values in times.items()}, file=sys.stderr)
    return times


def ratios(one: list[float], other: list[float]) -> dict[str, float]:
    """Spread of one divided by the other, round by round."""
    return Spread.of([a / b for a, b in zip(one, other, strict=True)]).model_dump()


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of the fastest of ten copies of a large tensor."""
    size = 2**30 if device.type == "cuda" else 2**24
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * size / min(seconds(lambda: target.copy_(source), device) for _ in range(10))


def emit(benchmark: str, chosen: argparse.Namespace, **figures: Any) -> None:
    """Print the result as one JSON line."""
    cuda = torch.device(chosen.device).type == "cuda"
    machine = {
        "device": torch.cuda.get_device_name(chosen.device) if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "peak_memory_gb": round(torch.cuda.max_memory_allocated(chosen.device) / 1e9, 2) if cuda else None,
    }
    print(
        json.dumps({"benchmark": benchmark, **figures, **machine, "config": vars(chosen), **provenance().model_dump()})
    )
