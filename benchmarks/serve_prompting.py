"""What does a level cost as a knob, and what as a prompt?

The same behaviour is asked for in three ways: a knob, a zero-shot instruction (the one that the shipped data was
written with), and a 3-shot prompt (three queries with their reference replies from the training split). Each comes
after a synthetic system prompt of so many tokens, which all ways pay for. Tokens are those that the server processes
for a request, prompt and reply; times are to the first token and for a reply of `--new-tokens`. No two prompts share a
beginning, so that nothing is reused, unless `--shared` is given. Ends in one JSON line with the curve; the paper's
claim is that a knob costs at most half: the line says up to which system prompt that holds.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving import VECTORS, answered, in_turn, serving

from alignvec import models
from alignvec.data.domain import load_domain
from alignvec.data.load import load_rows, shipped_file
from alignvec.data.schema import PreferenceRow
from alignvec.files import storage_errors
from alignvec.provenance import provenance
from alignvec.reproduce.cost.ways import CLAIM, SHOTS, chat_of, filler, holds_up_to, shares_of
from alignvec.serve.load.outcome import Outcome, Probe, chat_probe

WAYS = ("knob", "zero_shot", "three_shot")
COSTS = {
    "tokens": "tokens processed",
    "first_token": "seconds to the first token",
    "seconds": "seconds to the last token",
}


def probe(way: str, system: str, query: str, instruction: str, shots: Sequence[PreferenceRow], chosen: Any) -> Probe:
    """The request that asks in one way for the level."""
    setting = f"{chosen.domain}={chosen.level}" if way == "knob" else "base"
    asked = chat_probe(query, setting, model="demo", max_tokens=chosen.new_tokens)
    assert isinstance(asked.body, dict)
    messages = chat_of(way, query, system=system, instruction=instruction, shots=shots, level=chosen.level)
    return Probe(asked.body | {"messages": messages}, way)


def costs(outcome: Outcome, new: int) -> dict[str, float]:
    """Tokens and seconds of a request whose reply has `new` tokens: a shorter reply is continued at its own pace."""
    if outcome.prompt_tokens is None or outcome.first is None:
        raise SystemExit("the server gives no usage counts, or an empty reply; nothing can be compared")
    rest = (outcome.per_token or 0.0) * (new - 1)
    return {"tokens": outcome.prompt_tokens + new, "first_token": outcome.first, "seconds": outcome.first + rest}


def draw(curve: Sequence[dict[str, Any]], path: Path) -> None:
    """Costs over the length of the system prompt, and the knob's share of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, 3)
    x = [point["system_tokens"] for point in curve]
    for cost, top, bottom in zip(COSTS, above, below, strict=True):
        for way in WAYS:
            top.plot(x, [point["costs"][way][cost] for point in curve], "o-", label=way.replace("_", "-"), markersize=4)
        for i, way in enumerate(WAYS[1:], start=1):
            bottom.plot(
                x, [point["knob_vs"][way][cost] for point in curve], f"C{i}o-", label=f"knob / {way.replace('_', '-')}"
            )
        bottom.axhline(CLAIM, color="0.6", linestyle=":")
        top.set(title=COSTS[cost], ylim=(0, None))
        bottom.set(xlabel="tokens of the system prompt", ylim=(0, None))
        top.legend(frameon=False, fontsize=8)
        bottom.legend(frameon=False, fontsize=8)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--system-tokens", type=int, nargs="+", default=[0, 64, 128, 256, 512, 1024])
    parser.add_argument("--domain", default="medical")
    parser.add_argument("--level", default="expert")
    parser.add_argument("--shared", action="store_true", help="prompts share their beginnings, as those of one app do")
    parser.add_argument("--url", help="a running server; default: one is started")
    parser.add_argument("--plot", type=Path, help="draw the curve (PNG)")
    chosen = parser.parse_args()
    tokenizer = models.load("demo").tokenizer
    instruction = load_domain(chosen.domain).levels[chosen.level].instruction
    train = load_rows(shipped_file(chosen.domain), split="train")
    asked = load_rows(shipped_file(chosen.domain), split="validation", limit=chosen.rounds + 1)
    curve: list[dict[str, Any]] = []
    with serving(chosen.url, "--vectors", str(VECTORS)) as server:
        for length in sorted(chosen.system_tokens):
            rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for number, row in enumerate(asked):
                shots = train[:SHOTS] if chosen.shared else train[SHOTS * number : SHOTS * (number + 1)]
                text = filler(tokenizer, length)
                for way in WAYS:
                    mark = "" if chosen.shared else f"{number}{way[0]} "
                    system = mark + text if length else ""
                    told = instruction if length else mark + instruction  # the mark comes once
                    one = probe(way, system, row.query, told, shots, chosen)
                    found = costs(answered(in_turn(server.url, [one]))[0], chosen.new_tokens)
                    if number:  # the first round warms up
                        rounds[way].append(found)
            point: dict[str, Any] = {"system_tokens": length, "costs": {}, "knob_vs": {}}
            for way in WAYS:
                point["costs"][way] = {c: round(statistics.median(f[c] for f in rounds[way]), 4) for c in COSTS}
                ratios = {c: [k[c] / w[c] for k, w in zip(rounds["knob"], rounds[way], strict=True)] for c in COSTS}
                if way != "knob":
                    point["knob_vs"][way] = {c: round(statistics.median(r), 3) for c, r in ratios.items()}
                    point["knob_vs"][way]["least_most"] = {
                        c: [round(min(r), 3), round(max(r), 3)] for c, r in ratios.items()
                    }
            curve.append(point)
            print(point, file=sys.stderr)
    if chosen.plot:
        draw(curve, chosen.plot)
    print(
        json.dumps(
            {
                "benchmark": "serve_prompting",
                "half_the_cost_up_to_system_tokens": {
                    way: {cost: holds_up_to(shares_of(curve, way, cost)) for cost in COSTS} for way in WAYS[1:]
                },
                "curve": curve,
                "config": vars(chosen) | {"plot": str(chosen.plot) if chosen.plot else None},
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    main()
