"""Progress of training on stderr."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

T = TypeVar("T")


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def track(items: Iterable[T], what: str) -> Iterator[T]:
    """Yield the items, drawing a progress bar named `what`."""
    with _bar() as bar:
        yield from bar.track(items, description=what)


class TrainingProgress(TrainerCallback):
    """A bar over optimiser steps with the last loss and reward margin; in a log file, a line every ten steps."""

    def __init__(self) -> None:
        self._bar = _bar()

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
