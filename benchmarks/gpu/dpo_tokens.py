"""How many tokens a second does DPO train on, with low-rank factors on a bfloat16 base?

The trainer of `alignvec train` on random rows (a query with three replies, one packed row); the first step warms up.
Needs TRL, and says so in its line where that is missing. Ends in one JSON line; tokens are those of packed rows.
"""

import argparse
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shapes import build, random_rows
from timing import emit, options, wait

from alignvec.models import BaseModel
from alignvec.reproduce.spread import Spread
from alignvec.train.config import TrainConfig

NEEDED = ("trl", "peft", "datasets", "accelerate")


def step_seconds(base: BaseModel, rows: list[Any], chosen: argparse.Namespace) -> list[float]:
    """Seconds of each optimiser step."""
    from transformers import TrainerCallback

    from alignvec.train.dpo import make_trainer, score_base

    class Clock(TrainerCallback):
        seconds: list[float] = []  # noqa: RUF012

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wait(base.device)
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wait(base.device)
            self.seconds.append(time.perf_counter() - self.started)

    columns: dict[str, list[Any]] = {
        "prompt": [row.prompt for row in rows],
        "replies": [row.replies for row in rows],
        "reference": score_base(base, rows, chosen.batch),
        "pairs": [[(2, 1), (2, 0), (1, 0)]] * len(rows),
    }
    config = TrainConfig(
        name="random", rank=chosen.rank, batch_size=chosen.batch, accumulate=1, epochs=1, dtype="bfloat16",
        checkpoint_steps=10**6, seed=chosen.seed,
    )  # fmt: skip
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, base, columns, Path(folder))
        trainer.add_callback(clock)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if len(losses) != len(clock.seconds) or any(loss != loss for loss in losses):
        raise SystemExit(f"training went wrong: losses {losses}")
    return clock.seconds[1:]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8, help="queries a step, with three replies each")
    chosen = parser.parse_args()
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        emit("dpo_tokens", chosen, skipped=f"not installed: {', '.join(missing)}; pip install 'alignvec[train]'")
        return
    base = build(chosen.shape, device=chosen.device, seed=chosen.seed)
    rows = random_rows(chosen.batch * (chosen.rounds + 1), base.model.config.vocab_size, seed=chosen.seed)
    tokens = chosen.batch * rows[0].packed_length
    times = step_seconds(base, rows, chosen)
    emit(
        "dpo_tokens",
        chosen,
        tokens_per_second=Spread.of([tokens / s for s in times]).model_dump(),
        tokens_a_step=tokens,
        steps=len(times),
    )


if __name__ == "__main__":
    main()
