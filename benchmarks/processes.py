"""Rows scored a second by two processes, against one.

Every round scores the same rows at the same settings with one process of one thread, two processes of one thread each
(`accelerate launch`, gloo) and one process of two threads, in turn. The clock runs over scoring and gathering alone: a
process says how long that took it, after a first row that warms up, and the slowest counts. Ends in one JSON line;
ratios are medians over rounds of rows a second, so that a busy machine slows all three.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from alignvec.provenance import provenance

CONFIG = Path(__file__).parents[1] / "configs/accelerate/cpu_2.yaml"
WAYS = {"one": (1, 1), "two": (2, 1), "one_of_two_threads": (1, 2)}
"""Name to processes and threads of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=24, help="queries; each brings three replies")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settings", type=int, default=2, help="settings beside the base")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(arguments.rounds):
        for name, (processes, threads) in WAYS.items():
            rates[name].append(measured(processes, threads))
    median = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(rates["two"], rates[name], strict=True)), 3)
        for name in WAYS
        if name != "two"
    }
    print(
        json.dumps(
            {
                "benchmark": "processes",
                "ratio": ratios["one"],
                "ratio_to_two_threads": ratios["one_of_two_threads"],
                "goal": 1.7,
                "rows_a_second": {name: round(value, 3) for name, value in median.items()},
                "rounds": {name: [round(value, 3) for value in values] for name, values in rates.items()},
                "cores": len(os.sched_getaffinity(0)),
                "load": round(os.getloadavg()[0], 2),
                **provenance().model_dump(),
            }
        )
    )


def measured(processes: int, threads: int) -> float:
    """Rows scored a second."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIG)] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launch, __file__, *sys.argv[1:], "--work"],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["rows_a_second"])


def work(arguments: argparse.Namespace) -> None:
    """Score in this process, or in its share; the main process prints the rows of all a second."""
    import torch

    from alignvec import processes
    from alignvec.data.load import levels_of, load_rows, shipped_file
    from alignvec.evaluate.journal import Journal
    from alignvec.evaluate.preference import score_levels
    from alignvec.logprobs import encode_replies
    from alignvec.steer.loading import VECTORS, load_knobbed

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = load_knobbed("demo", [VECTORS / "medical"])
    rows = load_rows(shipped_file("medical"))[: arguments.rows]
    settings = [{"medical": (i + 1) / arguments.settings} for i in range(arguments.settings)]
    first = rows[0]
    replies = encode_replies(model.base.tokenizer, first.query, list(first.responses.values()), max_length=1024)
    model.score([replies], settings[0])
    processes.gather(None)
    start = time.perf_counter()
    score_levels(model, rows, levels_of(rows), settings, journal=Journal())
    seconds = max(processes.gather(time.perf_counter() - start))
    if processes.is_main():
        print(json.dumps({"rows_a_second": len(rows) * (1 + arguments.settings) / seconds}), flush=True)


if __name__ == "__main__":
    main()
