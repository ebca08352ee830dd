"""A load test as a picture: waiting over time, and how long which share of the requests waits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignvec.evaluate.drawing import COLOURS
from alignvec.files import write_figure
from alignvec.serve.load.outcome import Outcome


def plot_load(outcomes: Sequence[Outcome], path: Path, *, title: str = "") -> None:
    """Draw time to first token over time, and the percentile curves of both waiting times, into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    over_time, curves = figure.subplots(1, 2)
    _draw_over_time(over_time, outcomes)
    answered = [one for one in outcomes if one.kind == "answered"]
    _draw_curve(curves, [one.first for one in answered if one.first is not None], COLOURS[2], "first token")
    _draw_curve(curves, [one.per_token for one in answered if one.per_token is not None], COLOURS[0], "per token")
    curves.set(title="how long which share waits", xlabel="percentile of answered requests", ylabel="seconds")
    if curves.lines:
        curves.set_yscale("log")
        curves.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    write_figure(path, figure)


def _draw_over_time(axis: Any, outcomes: Sequence[Outcome]) -> None:
    start = min(one.due for one in outcomes)
    answered = [one for one in outcomes if one.kind == "answered" and one.first is not None]
    others = [one for one in outcomes if one.kind != "answered"]
    axis.plot([one.due - start for one in answered], [one.first for one in answered], ".", color=COLOURS[2])
    if others:
        due, ended = [one.due - start for one in others], [one.seconds for one in others]
        axis.plot(due, ended, "x", color=COLOURS[0], markersize=4, label="not answered: time to the end")
        axis.legend(frameon=False, fontsize=8)
    axis.set(title="time to first token", xlabel="seconds since the first request was due", ylabel="seconds")
    axis.set_ylim(bottom=0)


def _draw_curve(axis: Any, values: Sequence[float], colour: str, label: str) -> None:
    if values:
        shares = np.linspace(0, 100, 201)
        axis.plot(shares, np.percentile(np.asarray(values, dtype=float), shares), color=colour, label=label)
