"""Knobs against PEFT's mixed batch (`adapter_names`) with one merged adapter for each setting.

Both in one process and in turn, on two copies of the demo model: `KnobbedModel` with one gate row for each row, and a
`PeftModel` with one adapter a setting, made of the factors that the setting turns, stacked, B scaled by its λ (what
`add_weighted_adapter` with `cat` does, with signs). Decoding is greedy, with a fixed number of new tokens. Measured are
throughput, the bytes of the vectors or adapters, resident memory that loading and turning them adds, and the time from
a new setting to a model that can run it. Rows of both that give the same tokens are counted. Ends in one JSON line.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from serve import settings, spread
from serving import VECTORS, queries

from alignvec import models
from alignvec.logprobs import encode_prompt
from alignvec.provenance import provenance
from alignvec.serve.load.outcome import parse_setting
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.store import find_vectors, load_vector
from alignvec.vectors.vector import AlignmentVector

Knobs = Mapping[str, float]


def merged(vectors: Sequence[AlignmentVector], knobs: Knobs) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """One adapter for a setting: stacked A, and B scaled by the gate."""
    parts = [(part, part.gate(knobs.get(part.vector, 0.0))) for v in vectors for part in v.parts]
    active = [(part, gate) for part, gate in parts if gate]
    tensors, ranks = {}, set()
    for name in active[0][0].deltas:
        deltas = [(part.deltas[name], gate) for part, gate in active]
        low = [(delta, gate) for delta, gate in deltas if isinstance(delta, LowRankDelta)]
        key = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{key}.lora_A.weight"] = torch.cat([delta.a.float() for delta, _ in low])
        tensors[f"{key}.lora_B.weight"] = torch.cat([delta.b.float() * gate for delta, gate in low], dim=1)
        ranks.add(sum(delta.rank for delta, _ in low))
    (rank,) = ranks
    targets = [name.removesuffix(".weight") for name in active[0][0].deltas]
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, task_type="CAUSAL_LM"), tensors


def add_adapter(model: Any, name: str, vectors: Sequence[AlignmentVector], knobs: Knobs) -> Any:
    """The model with one more adapter."""
    config, tensors = merged(vectors, knobs)
    if hasattr(model, "peft_config"):
        model.add_adapter(name, config)
    else:
        model = get_peft_model(model, config, adapter_name=name)
    missed = set_peft_model_state_dict(model, tensors, adapter_name=name)
    if missed.unexpected_keys:
        raise SystemExit(f"the adapter does not fit: {missed.unexpected_keys[:3]}")
    return model.eval()


def resident() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--settings", type=int, default=16, choices=range(2, 17), metavar="2..16")
    parser.add_argument("--changes", type=int, default=5, help="settings to change to")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    base, other = models.load("demo"), models.load("demo")
    before = resident()
    vectors = [load_vector(folder) for folder in find_vectors(VECTORS).values()]
    wanted = [
        {name: float(value) for name, value in parse_setting(text).items()}
        for text in settings([vector.name for vector in vectors])[: chosen.settings]
    ]
    knobbed = KnobbedModel(base, vectors)
    with knobbed.knobs(wanted):
        knobs_mib = resident() - before
    before, peft = resident(), other.model
    names = [f"setting{i}" for i in range(len(wanted))]
    for name, knobs in zip(names, wanted, strict=True):
        peft = add_adapter(peft, name, vectors, knobs)
    peft_mib = resident() - before

    tokenizer = base.tokenizer
    prompts = [encode_prompt(tokenizer, [{"role": "user", "content": q}]) for q in queries(len(wanted))]
    longest = max(map(len, prompts))
    batch = {
        "input_ids": torch.tensor([[tokenizer.pad_token_id] * (longest - len(p)) + p for p in prompts]),
        "attention_mask": torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts]),
    }
    new = {"max_new_tokens": chosen.new_tokens, "min_new_tokens": chosen.new_tokens, "do_sample": False}

    def run_knobs() -> torch.Tensor:
        with knobbed.knobs(wanted) as network:
            found: torch.Tensor = network.generate(**batch, **new, pad_token_id=tokenizer.pad_token_id)
        return found

    def run_peft() -> torch.Tensor:
        found: torch.Tensor = peft.generate(**batch, **new, pad_token_id=tokenizer.pad_token_id, adapter_names=names)
        return found

    speed: dict[str, list[float]] = {"knobs": [], "peft": []}
    output = {}
    for number in range(chosen.rounds + 1):
        for name, run in (("knobs", run_knobs), ("peft", run_peft)):
            start = time.perf_counter()
            with torch.no_grad():
                output[name] = run()
            if number:  # the first round warms up
                speed[name].append(len(wanted) * chosen.new_tokens / (time.perf_counter() - start))
        print(f"round {number}: {speed}", file=sys.stderr)

    change: dict[str, list[float]] = {"knobs": [], "peft": []}
    for i in range(chosen.changes):
        fresh = {name: value * (0.9 - 0.05 * i) for name, value in wanted[i % len(wanted)].items()}
        start = time.perf_counter()
        with knobbed.knobs([fresh, *wanted[1:]]):
            change["knobs"].append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        peft.delete_adapter(names[0])
        add_adapter(peft, names[0], vectors, fresh)
        change["peft"].append(1000 * (time.perf_counter() - start))

    def same_rows() -> int:
        return int((output["knobs"][:, longest:] == output["peft"][:, longest:]).all(dim=1).sum())

    mib = 2**20
    median = {name: statistics.median(values) for name, values in speed.items()}
    parts = [(part, sum(d.nbytes for d in part.deltas.values())) for vector in vectors for part in vector.parts]
    turned = [size for part, size in parts if any(part.gate(knobs.get(part.vector, 0.0)) for knobs in wanted)]
    held = sum(size for _, size in parts) + sum(turned)  # the vectors, and the stack of those that are turned
    adapters = sum(p.nbytes for n, p in peft.named_parameters() if "lora_" in n)
    print(
        json.dumps(
            {
                "benchmark": "serve_peft",
                "alignvec_side": "KnobbedModel, per-row knobs, in this process",
                "throughput_ratio": round(median["knobs"] / median["peft"], 3),
                "ratio_by_round": spread([a / b for a, b in zip(speed["knobs"], speed["peft"], strict=True)]),
                "tokens_per_second": {name: spread(values) for name, values in speed.items()},
                "rows_with_equal_tokens": same_rows(),
                "rows": len(wanted),
                "weights_mib": {"knobs": round(held / mib, 2), "peft": round(adapters / mib, 2)},
                "resident_mib_added": {"knobs": round(knobs_mib, 1), "peft": round(peft_mib, 1)},
                "change_a_setting_ms": {name: spread(values) for name, values in change.items()},
                "config": vars(chosen) | {"knobs": wanted},
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    main()
