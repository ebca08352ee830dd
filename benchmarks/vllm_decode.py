"""What do knobs cost on vLLM, and how many different settings can one server hold?

Runs in vLLM's environment (`make test-vllm` makes it). Engines, each in a process of its own: the base without
adapters, compiled as vLLM does by default (`base`) and not (`eager`); all knobs through one stacked adapter and a
gate (`gate`); a composed adapter for each setting (`adapters`). Requests are short prompts with a fixed number of new
tokens; they are spread over 1 to 256 different settings, and at most `--batch` run at once. Engines take turns in
every round, so that noise hits all; ratios are medians of the rounds' ratios. Ends in one JSON line; `--plot` draws
the curve.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("base", "eager", "gate", "adapters")
NAMES = ("medical", "legal", "financial")


def setting(index: int) -> dict[str, float]:
    """One of 512 settings, all knobs turned, on the grid that composed adapters are rounded to."""
    values = (-0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8)
    return {name: values[(index // 8**i + i) % 8] for i, name in enumerate(NAMES)}


def worker(way: str, batch: int) -> None:
    """Answer JSON lines on stdin: requests, settings and tokens in, seconds out."""
    from alignvec.engines.vllm.offline import OfflineEngine

    vectors = [ROOT / "vectors" / name for name in NAMES] if way in ("gate", "adapters") else []
    options: dict[str, Any] = {"dtype": "float32", "max_model_len": 256, "max_num_seqs": batch, "seed": 0}
    options |= {"enable_prefix_caching": False, "enforce_eager": way == "eager"}
    if way == "adapters":
        options |= {"max_loras": min(batch, 8), "max_cpu_loras": 256}
        engine = OfflineEngine("demo", vectors, way="adapters", options=options, settings=512)
    else:
        engine = OfflineEngine("demo", vectors, options=options)
    print(json.dumps({"ready": way}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        knobs: list[Any] = [setting(i % task["settings"]) if vectors else {} for i in range(task["requests"])]
        params, adapters = engine.asked(
            knobs, [{"temperature": 0, "max_tokens": task["tokens"], "ignore_eos": True}] * len(knobs)
        )
        prompts = [{"prompt_token_ids": [1 + (i * 7 + j) % 1000 for j in range(8)]} for i in range(task["requests"])]
        began = time.perf_counter()
        outputs = engine.model.generate(prompts, params, lora_request=adapters, use_tqdm=False)
        seconds = time.perf_counter() - began
        assert all(len(output.outputs[0].token_ids) == task["tokens"] for output in outputs)
        print(json.dumps({"seconds": seconds}), flush=True)


class Engine:
    """A worker in a process of its own."""

    def __init__(self, way: str, batch: int) -> None:
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", way, "--batch", str(batch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
            process_group=0,
        )  # fmt: skip
        self._read("ready")
        self._signal(signal.SIGSTOP)

    def seconds(self, **task: int) -> float:
        """What a task takes."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        seconds = float(self._read("seconds"))
        self._signal(signal.SIGSTOP)
        return seconds

    def _signal(self, number: int) -> None:
        os.killpg(self._process.pid, number)  # vLLM's processes spin while they wait, in the others' time

    def _read(self, key: str) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(f'{{"{key}"'):
                return json.loads(line)[key]
        raise SystemExit(f"the worker ended with code {self._process.wait()}")

    def close(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)
        self._process.wait()


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--settings", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--requests", type=int, default=256, help="at least as many as settings")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--worker", choices=WAYS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.batch)
        return
    engines = {way: Engine(way, arguments.batch) for way in arguments.ways}
    size = {"requests": arguments.requests, "tokens": arguments.tokens}
    cells = [(way, k) for way in engines for k in (arguments.settings if way in ("gate", "adapters") else [1])]
    speeds: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
    for way, engine in engines.items():
        engine.seconds(settings=1, requests=arguments.batch, tokens=4)
        print(f"{way} is warm", file=sys.stderr)
    for number in range(arguments.rounds):
        for way, settings in cells:
            seconds = engines[way].seconds(settings=settings, **size)
            speeds[way, settings].append(size["requests"] * size["tokens"] / seconds)
            print(
                f"round {number}: {way} {settings} settings: {speeds[way, settings][-1]:.1f} tokens/s", file=sys.stderr
            )
    for engine in engines.values():
        engine.close()
    from alignvec.provenance import provenance

    rows = [
        {
            "way": way,
            "settings": settings,
            "tokens_a_second": spread(found),
            **{
                f"of_{other}": spread([x / y for x, y in zip(found, speeds[other, 1], strict=True)])
                for other in ("base", "eager")
                if other in engines
            },
        }
        for (way, settings), found in speeds.items()
    ]
    if arguments.plot:
        draw(rows, arguments.plot)
    shape = {key: getattr(arguments, key) for key in ("requests", "tokens", "batch", "rounds")}
    print(json.dumps({"benchmark": "vllm_decode", **shape, "rows": rows, "provenance": provenance().model_dump()}))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for way, label in (("gate", "one adapter, a gate for every token"), ("adapters", "an adapter for each setting")):
        mine = [row for row in rows if row["way"] == way]
        if mine:
            speed = [row["tokens_a_second"] for row in mine]
            x, y = [row["settings"] for row in mine], [one["median"] for one in speed]
            error = [[one["median"] - one["least"] for one in speed], [one["most"] - one["median"] for one in speed]]
            axes.errorbar(x, y, error, marker="o", capsize=3, label=label)
    for row in rows:
        if row["way"] in ("base", "eager"):
            style = {"base": ("-", "base, compiled"), "eager": ("--", "base, not compiled")}[row["way"]]
            axes.axhline(row["tokens_a_second"]["median"], color="gray", linestyle=style[0], label=style[1])
    axes.set(xscale="log", xlabel="different settings among the requests", ylabel="tokens a second", ylim=(0, None))
    axes.set_xticks([row["settings"] for row in rows if row["way"] == "gate"])
    axes.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.minorticks_off()
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
