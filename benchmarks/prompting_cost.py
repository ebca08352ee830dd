"""What does a level cost as a knob, and what as a prompt, in process and with prefix caching on and off?

See `alignvec.reproduce.cost.inference_cost`; `serve_prompting.py` asks the same of the server. One knob and three at
once, all turned to the wanted level, against a zero-shot instruction and a 3-shot prompt. Prompt tokens are exact;
seconds are medians of rounds in which the ways follow each other. Tables go to stderr; ends in one JSON line.
"""

import argparse
import json
from pathlib import Path

import torch
from solving import at_least, in_one_line, print_tables

from alignvec.data.domain import load_domain
from alignvec.data.load import load_rows, shipped_file
from alignvec.errors import ConfigError
from alignvec.files import write_text
from alignvec.progress import progress
from alignvec.reproduce.cost.inference_cost import Grid, inference_cost
from alignvec.reproduce.cost.inference_plot import plot_inference
from alignvec.reproduce.cost.inference_record import COSTS, WAYS, InferenceCost
from alignvec.reproduce.cost.inference_report import OTHERS, tables
from alignvec.reproduce.cost.ways import SHOTS
from alignvec.steer.loading import load_knobbed


def curve(result: InferenceCost) -> list[dict[str, object]]:
    """Medians of every point, and the knob's share of each other way's costs."""
    return [
        {
            "batch": point.batch,
            "caching": point.cached,
            "system_tokens": point.system_tokens,
            "costs": {way: {c: round(result.spread(point, way, c).median, 5) for c in COSTS} for way in WAYS},
            "knob_vs": {
                way: {
                    cost: [
                        round(getattr(result.share(point, way, cost), end), 3) for end in ("median", "least", "most")
                    ]
                    for cost in COSTS
                }
                for way in OTHERS
            },
        }
        for points in result.curves().values()
        for point in points
    ]


def main() -> None:
    standard = Grid()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="draw from the first N validation queries only")
    parser.add_argument("--seed", type=int, default=0, help="of the queries and the order of the ways")
    parser.add_argument("--rounds", type=int, default=standard.rounds)
    parser.add_argument("--system-tokens", type=int, nargs="+", default=standard.system_tokens)
    parser.add_argument("--batch", type=int, nargs="+", default=standard.batches)
    parser.add_argument("--new-tokens", type=int, default=standard.new_tokens)
    parser.add_argument("--domain", default="medical")
    parser.add_argument("--level", default="expert")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--vectors", type=Path, action="append", help="three or more; default: the shipped ones")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--journal", type=Path, help="a killed run goes on from it")
    parser.add_argument("--out", type=Path, help="write the whole record (JSON)")
    parser.add_argument("--plot", type=Path, help="draw the curves (PNG)")
    chosen = parser.parse_args()
    at_least(chosen, limit=1, threads=1)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    grid = Grid(
        system_tokens=tuple(chosen.system_tokens),
        batches=tuple(chosen.batch),
        rounds=chosen.rounds,
        new_tokens=chosen.new_tokens,
    )
    grid.check()
    levels = load_domain(chosen.domain).levels
    if chosen.level not in levels:
        raise ConfigError(f"--level {chosen.level}: {chosen.domain} has no such level (have: {', '.join(levels)})")
    knobbed = load_knobbed(chosen.model, chosen.vectors, dtype=chosen.dtype)
    settings = {
        name: vector.card.settings.get(chosen.level, 1.0)
        for name, vector in sorted(knobbed.vectors.items(), key=lambda item: item[1].card.domain != chosen.domain)
    }
    if len(settings) < 3:
        raise ConfigError(f"--vectors has {len(settings)} vectors; three are needed, to turn three at once")
    names = list(settings)
    file = shipped_file(chosen.domain)
    with progress() as advance:
        result = inference_cost(
            knobbed,
            {"knob": {n: settings[n] for n in names[:1]}, "knobs_3": {n: settings[n] for n in names[:3]}},
            load_rows(file, split="validation", limit=chosen.limit),
            load_rows(file, split="train", limit=SHOTS),
            instruction=levels[chosen.level].instruction,
            level=chosen.level,
            grid=grid,
            seed=chosen.seed,
            journal=chosen.journal,
            advance=advance,
        )
    print_tables(tables(result))
    if chosen.out:
        write_text(chosen.out, result.model_dump_json(indent=1) + "\n")
    if chosen.plot:
        plot_inference(result, chosen.plot)
    same, compared = result.equal
    line = {
        "benchmark": "prompting_cost",
        "half_the_cost_up_to_system_tokens": {
            f"batch {batch}, caching {'on' if cached else 'off'}": {
                way: {cost: result.half_up_to(batch, cached, way, cost) for cost in COSTS} for way in OTHERS[1:]
            }
            for batch, cached in result.curves()
        },
        "cached_tokens_equal_to_uncached": [same, compared],
        "curve": curve(result),
        "config": json.loads(json.dumps(vars(chosen), default=str)),
        "knobs": result.knobs,
        "threads": result.threads,
        **result.provenance.model_dump(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    in_one_line(main)
