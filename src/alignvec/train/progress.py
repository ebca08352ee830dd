"""Progress of training on stderr, and its time."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from transformers import TrainerCallback

from alignvec.progress import bar, progress

T = TypeVar("T")


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items, telling progress under the name `what`."""
    with progress() as advance:
        for item in items:
            yield item
            advance(what, 1, len(items))


class TrainingProgress(TrainerCallback):
    """A bar over optimiser steps with the last loss and reward margin; in a log file, a line every ten steps."""

    def __init__(self) -> None:
        self._bar = bar()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the bar where the run starts or goes on."""
        self._task = self._bar.add_task("training", total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Show the newest loss and margin."""
        if logs and "loss" in logs:
            text = f"loss {float(logs['loss']):.3f}  margin {float(logs['rewards/margins']):.2f}"
            self._bar.update(self._task, completed=state.global_step, description=text)
            if not self._bar.console.is_terminal and state.global_step % 10 == 0:
                self._bar.console.print(f"step {state.global_step} of {state.max_steps}: {text}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Take the bar down, also after a failure."""
        self._bar.stop()


class StepClock(TrainerCallback):
    """Adds the wall seconds of each optimiser step to its entry in the history, which checkpoints keep.

    So a run that was killed counts each step of the result once, whichever process took it.
    """

    def __init__(self) -> None:
        self._begun: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write down the time of the step that is logged."""
        if self._begun is not None and logs and "loss" in logs:
            state.log_history[-1]["seconds"] = round(time.perf_counter() - self._begun, 4)


def seconds_of(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Wall seconds of all steps of a history; None if one was taken before steps were timed."""
    steps = [entry.get("seconds") for entry in history if "loss" in entry]
    return None if None in steps else round(sum(filter(None, steps)), 1)
