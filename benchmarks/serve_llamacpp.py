"""What do requests with different knobs cost in llama-server, which batches only requests of one setting?

Bursts of requests at a running server, in turn: all at the base, all at one setting, each at a setting of its own, and
those one after the other. `--server` needs as many slots as requests (`--parallel`), and the adapters of `--adapters`
(`alignvec export --format gguf --knobs`). Prompts are read anew every time; tokens a second count the whole
burst. Ends in one JSON line; ratios are round by round.
"""

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alignvec.data.load import load_rows, shipped_file
from alignvec.engines.llamacpp.manifest import load_manifest
from alignvec.engines.llamacpp.request import check_server, request_fields
from alignvec.provenance import provenance
from alignvec.reproduce.spread import Spread

PAIRS = (("own_settings", "one_setting"), ("own_settings", "own_settings_in_turn"), ("one_setting", "base"))


def complete(url: str, body: dict[str, Any]) -> int:
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/completion", data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return int(json.load(answer)["timings"]["predicted_n"])


def burst(url: str, bodies: Sequence[dict[str, Any]], workers: int) -> float:
    """Tokens a second of requests that are sent together, or one after the other with one worker."""
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        tokens = sum(pool.map(lambda body: complete(url, body), bodies))
    return tokens / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    manifest = load_manifest(chosen.adapters)
    check_server(manifest, chosen.server)
    names = list(manifest.knobs)
    own = [{names[i % len(names)]: 1 - 0.25 * i / chosen.requests} for i in range(chosen.requests)]
    queries = [row.query for row in load_rows(shipped_file("medical"), split="validation", limit=chosen.requests)]

    def bodies(settings: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
        fixed = {"n_predict": chosen.new_tokens, "ignore_eos": True, "temperature": 0}
        return [
            {"prompt": f"Question: {q}\nAnswer:", **fixed, **request_fields(manifest, s)}
            for q, s in zip(queries, settings, strict=True)
        ]

    regimes = {
        "base": (bodies([{}] * chosen.requests), chosen.requests),
        "one_setting": (bodies([own[0]] * chosen.requests), chosen.requests),
        "own_settings": (bodies(own), chosen.requests),
        "own_settings_in_turn": (bodies(own), 1),
    }
    speed: dict[str, list[float]] = {name: [] for name in regimes}
    for number in range(chosen.rounds + 1):
        for name, (wanted, workers) in regimes.items():
            found = burst(chosen.server, wanted, workers)
            if number:  # the first round warms up
                speed[name].append(found)
        print(f"round {number}: {speed}", file=sys.stderr)
    ratios = {
        f"{one}/{other}": Spread.of([a / b for a, b in zip(speed[one], speed[other], strict=True)]).model_dump()
        for one, other in PAIRS
    }
    print(
        json.dumps(
            {
                "benchmark": "serve_llamacpp",
                "ratios": ratios,
                "tokens_per_second": {name: Spread.of(values).model_dump() for name, values in speed.items()},
                "settings": own,
                "config": {k: str(v) if isinstance(v, Path) else v for k, v in vars(chosen).items()},
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    main()
