"""Progress of long work on stderr: bars on a terminal; in a log or a pipe, a plain line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from alignvec import processes

if TYPE_CHECKING:
    from rich.progress import Progress

Advance: TypeAlias = Callable[[str, float, float], None]
"""Called with a task's name, what was done since the last call, and the total."""


class Advancing(Protocol):
    """What `progress` yields: an `Advance` that can be told of what was done before this run."""

    def __call__(self, task: str, done: float, total: float, /, *, before: bool = False) -> None:
        """Tell progress; with `before`, of what is no part of the rate."""


EVERY = 30.0
"""Seconds between two lines where stderr is no terminal; the end of a stage is always told."""
EXACT = 1e-6
"""By how much a sum of fractions may fall short of its total."""


def bar(*, rate: bool = False) -> "Progress":
    """Bars on stderr, not started yet; with `rate` they tell it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    speed = (TaskProgressColumn(text_format="", text_format_no_percentage="", show_speed=True),) if rate else ()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *speed, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


@contextmanager
def progress(*, rate: bool = False) -> Iterator[Advancing]:
    """Yield what tells progress on stderr: bars on a terminal, else lines such as `generating 120 of 2080`.

    Of several processes only the main one tells.

    Args:
        rate: tell rate and time left too; what the first call of a stage reports was done before it.
    """
    if not processes.is_main():
        yield lambda *_, **__: None
        return
    bars = bar(rate=rate)
    if not bars.console.is_terminal:
        lines = _Lines(rate=rate)
        try:
            yield lines.advance
        finally:
            lines.close()
        return
    with bars:
        tasks: dict[str, Any] = {}

        def advance(task: str, done: float, total: float, /, *, before: bool = False) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total)
            elif bars.tasks[tasks[task]].finished:  # a further round of the same work
                bars.reset(tasks[task], total=total)
            if before:  # not by `advance`, which takes it into the rate
                bars.tasks[tasks[task]].completed += done
                done = 0
            bars.advance(tasks[task], done)

        yield advance


@dataclass
class _Stage:
    total: float
    began: float
    before: float
    done: float = 0.0
    told: float = 0.0

    @property
    def finished(self) -> bool:
        return self.done >= self.total - EXACT

    @property
    def pace(self) -> str:
        """Rate and time left, as far as they are known."""
        seconds, done = time.monotonic() - self.began, self.done - self.before
        if seconds <= 0 or done <= 0:
            return ""
        left = timedelta(seconds=round((self.total - self.done) * seconds / done))
        return f", {done / seconds:.3g}/s" + ("" if self.finished else f", {left} left")


class _Lines:
    """A line at most every `EVERY` seconds, and one at the end of each stage; threads may share it."""

    def __init__(self, *, rate: bool = False) -> None:
        self._rate = rate
        self._stages: dict[str, _Stage] = {}
        self._last = time.monotonic()
        self._lock = Lock()

    def advance(self, task: str, done: float, total: float, /, *, before: bool = False) -> None:
        with self._lock:
            stage = self._stages.get(task)
            if stage is None or stage.finished:  # new, or a further round of the same work
                stage = self._stages[task] = _Stage(total, time.monotonic(), done)
            elif before:
                stage.before += done
            stage.done += done
            if stage.finished or time.monotonic() - self._last >= EVERY:
                self._tell(task, stage)

    def close(self) -> None:
        """Tell how far those stages came that did not reach their totals."""
        for task, stage in self._stages.items():
            self._tell(task, stage)

    def _tell(self, task: str, stage: _Stage) -> None:
        if stage.done > stage.told:
            pace = stage.pace if self._rate else ""
            print(f"{task} {stage.done:.0f} of {stage.total:.0f}{pace}", file=sys.stderr, flush=True)
            stage.told, self._last = stage.done, time.monotonic()
