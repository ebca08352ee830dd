"""What does it cost, while decoding, that every row has a setting of its own?

One decode loop (greedy, fixed number of tokens after a random prompt), with no vectors and with as many settings as
rows, by batch size and total rank. Twice: `eager`, the loop that `generate` runs, where launching kernels from Python
counts too; and, on CUDA, `graph`, the same step captured once and replayed, where only what the GPU does counts.
Ends in one JSON line; `ratio` is tokens a second with knobs over without, round by round.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from shapes import build, low_rank_vectors, many_settings
from timing import emit, in_turn, options, ratios
from transformers import StaticCache

from alignvec.models import BaseModel
from alignvec.reproduce.spread import Spread
from alignvec.steer.model import KnobbedModel

NAMES = ("one", "two", "three", "four")
GOAL = {"batch": 64, "rank": 64, "shape": "8b", "ratio": 0.92}
Turned = Callable[[], Any]


class Decoding:
    """Greedy decoding of a batch from a cache of fixed size, which can be set back to the end of the prompt."""

    def __init__(self, base: BaseModel, batch: int, prompt: int, new: int, seed: int) -> None:
        self._model, self._prompt, self._new = base.model, prompt, new
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(base.model.config.vocab_size, (batch, prompt), generator=generator).to(base.device)
        self._cache = StaticCache(base.model.config, max_cache_len=prompt + new)
        self.ids = self._forward(ids).argmax(dim=-1)
        self._first = self.ids.clone()

    @torch.no_grad()
    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1).logits
        return logits

    def step(self) -> torch.Tensor:
        """One token for every row; its logits."""
        logits = self._forward(self.ids)
        self.ids.copy_(logits.argmax(dim=-1))
        return logits

    def rewind(self) -> None:
        """Back to the end of the prompt."""
        self.ids.copy_(self._first)
        for layer in self._cache.layers:
            layer.cumulative_length.fill_(self._prompt)

    def loop(self, step: Callable[[], Any]) -> None:
        """All new tokens but the first."""
        self.rewind()
        for _ in range(self._new):
            step()


@contextmanager
def turned(knobbed: KnobbedModel | None, batch: int) -> Iterator[None]:
    with nullcontext() if knobbed is None else knobbed.knobs(many_settings(NAMES, batch)):
        yield


def eager(decoding: Decoding, knobbed: KnobbedModel | None, batch: int) -> Turned:
    def run() -> None:
        with turned(knobbed, batch):
            decoding.loop(decoding.step)

    return run


def graph(decoding: Decoding, knobbed: KnobbedModel | None, batch: int) -> Turned:
    """The loop with its step captured; the gates that were set then stay in the model's stacks."""
    with turned(knobbed, batch):
        decoding.rewind()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            decoding.step()
        torch.cuda.current_stream().wait_stream(stream)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            decoding.step()
    return lambda: decoding.loop(captured.replay)


def check_turned(decoding: Decoding, knobbed: KnobbedModel, batch: int) -> float:
    """Mean change of the first step's logits; a benchmark of knobs that do nothing would be none."""
    decoding.rewind()
    plain = decoding.step().float()
    decoding.rewind()
    with turned(knobbed, batch):
        change = float((decoding.step().float() - plain).abs().mean())
    if not change > 0:
        raise SystemExit("the knobs changed nothing")
    return change


def measure(base: BaseModel, batch: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """One result a mode and rank."""
    decoding = Decoding(base, batch, chosen.prompt, chosen.new_tokens, chosen.seed)
    found = []
    for mode, make in (("eager", eager), ("graph", graph)):
        if mode == "graph" and base.device.type != "cuda":
            continue
        # one model a rank and mode: a captured step reads the gates that its model was left with
        models = {rank: KnobbedModel(base, low_rank_vectors(base, NAMES, rank), allow_other_base=True)
                  for rank in chosen.ranks}  # fmt: skip
        changes = {rank: check_turned(decoding, knobbed, batch) for rank, knobbed in models.items()}
        try:
            regimes = {"base": make(decoding, None, batch)}
            regimes |= {str(rank): make(decoding, knobbed, batch) for rank, knobbed in models.items()}
        except RuntimeError as error:
            print(f"no {mode} with {batch} rows: {error}", file=sys.stderr)
            found.append({"mode": mode, "batch": batch, "failed": str(error).split("\n")[0]})
            continue
        times = in_turn(regimes, chosen.rounds, base.device)
        tokens = batch * chosen.new_tokens
        found += [
            {
                "mode": mode,
                "batch": batch,
                "rank": rank,
                "ratio": ratios(times["base"], times[str(rank)]),
                "tokens_per_second": Spread.of([tokens / s for s in times[str(rank)]]).model_dump(),
                "base_tokens_per_second": Spread.of([tokens / s for s in times["base"]]).model_dump(),
                "mean_logit_change": round(changes[rank], 4),
            }
            for rank in chosen.ranks
        ]
        del models, regimes
        gc.collect()
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 256], help="of all vectors together")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--new-tokens", type=int, default=32)
    chosen = parser.parse_args()
    base = build(chosen.shape, device=chosen.device, seed=chosen.seed)
    results = [result for batch in chosen.batches for result in measure(base, batch, chosen)]
    emit("decode_mixed", chosen, goal=GOAL, results=results)


if __name__ == "__main__":
    main()
