"""What does it cost a server to give 16 concurrent requests 16 different settings?

Three regimes in turn, over HTTP, so that noise hits all: 16 requests with 16 settings of all shipped vectors at once;
the same 16 at base at once (on a server of its own that was started with `--bare-option` if that is given, else on the
same server; the result says which); and the 16 settings one request at a time. The prompts are such that no reply ends
before its last token, so all do the same work. Also checks, greedily in float32, that each reply equals the same
request alone. Ends in one JSON line; ratios are of medians of tokens per second.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from serving import VECTORS, Server, answered, burst, in_turn, queries, serving

from alignvec.provenance import provenance
from alignvec.serve.load.outcome import Outcome, Probe, chat_probe
from alignvec.vectors.store import find_vectors

VALUES = (-1.0, -0.5, 0.5, 1.0)
REGIMES = ("mixed", "base", "one_at_a_time")


def settings(names: Sequence[str]) -> list[str]:
    """16 different settings, each of all vectors."""
    digits = [(i % 4, i // 4, (i + i // 4) % 4) for i in range(16)]
    return [",".join(f"{name}={VALUES[d[j % 3]]:g}" for j, name in enumerate(names)) for d in digits]


def long_replies(server: Server, wanted: Sequence[str], new: int) -> list[tuple[Probe, Probe, str]]:
    """For each setting a query that is answered at full length under it and at base, and the reply to it alone."""
    found: list[tuple[Probe, Probe, str]] = []
    left = queries(120)
    for setting in wanted:
        for query in list(left):
            left.remove(query)
            pair = [chat_probe(query, s, model="demo", max_tokens=new) for s in (setting, "base")]
            alone, base = answered(in_turn(server.url, pair))
            if alone.finish == base.finish == "length":
                found.append((pair[0], pair[1], alone.text))
                break
        else:
            raise SystemExit(f"no query has a reply of {new} tokens under {setting}; use fewer --new-tokens")
        print(f"{setting}: found", file=sys.stderr)
    return found


def tokens_per_second(outcomes: Sequence[Outcome]) -> float:
    answered(outcomes)
    seconds = max(o.due + o.seconds for o in outcomes) - min(o.due for o in outcomes)
    return sum(o.tokens for o in outcomes) / seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    least, most = min(values), max(values)
    return {"median": round(statistics.median(values), 3), "least": round(least, 3), "most": round(most, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=16, choices=range(1, 17), metavar="1..16")
    parser.add_argument("--url", help="a running server; default: one is started")
    parser.add_argument("--bare-option", action="append", help="of `alignvec serve`, for a server with no vectors")
    chosen = parser.parse_args()
    wanted = settings(list(find_vectors(VECTORS)))[: chosen.requests]
    with ExitStack() as stack:
        server = stack.enter_context(serving(chosen.url, "--vectors", str(VECTORS)))
        bare = stack.enter_context(serving(None, *chosen.bare_option)) if chosen.bare_option else server
        probes = long_replies(server, wanted, chosen.new_tokens)
        mixed, base, texts = ([one[i] for one in probes] for i in range(3))
        speed: dict[str, list[float]] = {name: [] for name in REGIMES}
        equal = []
        for number in range(chosen.rounds + 1):
            together = burst(server.url, mixed)
            found = (together, burst(bare.url, base), in_turn(server.url, mixed))
            equal.append(sum(o.text == text for o, text in zip(together, texts, strict=True)))
            if number:  # the first round warms up
                for name, outcomes in zip(REGIMES, found, strict=True):
                    speed[name].append(tokens_per_second(outcomes))
            print(f"round {number}: {speed}, equal {equal[-1]}", file=sys.stderr)
    median = {name: statistics.median(values) for name, values in speed.items()}
    ratio = {name: spread([a / b for a, b in zip(speed["mixed"], speed[name], strict=True)]) for name in REGIMES[1:]}
    print(
        json.dumps(
            {
                "benchmark": "serve",
                "throughput_vs_no_vectors": round(median["mixed"] / median["base"], 3),
                "throughput_vs_no_vectors_goal": 0.85,
                "no_vectors_peer": "a server with no vectors" if chosen.bare_option else "all at base, same server",
                "vs_one_at_a_time": round(median["mixed"] / median["one_at_a_time"], 3),
                "vs_one_at_a_time_goal": 6,
                "ratio_by_round": ratio,
                "tokens_per_second": {name: spread(values) for name, values in speed.items()},
                "replies_equal_to_alone": min(equal),
                "requests": len(mixed),
                "config": vars(chosen) | {"settings": wanted},
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    main()
