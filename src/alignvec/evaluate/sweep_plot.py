"""The λ curve as a picture: what the model prefers, what it says, and the margin between the extremes."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvec.evaluate.drawing import COLOURS, band
from alignvec.files import write_figure

if TYPE_CHECKING:
    from alignvec.evaluate.sweep_record import SweepResult


def plot_sweeps(results: Sequence["SweepResult"], path: Path) -> None:
    """Draw one row of panels a sweep into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6 * len(results)), layout="constrained")
    for result, axes in zip(results, figure.subplots(len(results), 3, squeeze=False), strict=True):
        _draw(result, axes)
    write_figure(path, figure)


def plot_sweep(result: "SweepResult", path: Path) -> None:
    """Draw one sweep into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    plot_sweeps([result], path)


def _draw(result: "SweepResult", axes: Any) -> None:
    said, preferred, margin = axes
    points = result.curve
    for colour, level in zip(cycle(COLOURS), result.levels, strict=False):
        band(said, [(p.coefficient, p.level_rate.get(level)) for p in points], colour, level)
        rates = [(p.coefficient, p.preference_rate.get("per_token", {}).get(level)) for p in points]
        band(preferred, rates, colour, level)
    degenerate = [(p.coefficient, p.degenerate) for p in points if p.degenerate]
    if degenerate:
        said.plot([x for x, _ in degenerate], [y.value for _, y in degenerate], "k:", linewidth=1, label="degenerate")
    said.set(title=f"{result.vector}: level of {result.generated} generated replies", ylabel="level rate")
    preferred.set(title="likeliest reference reply (per token)", ylabel=f"preference rate, {result.queries} queries")
    for axis in (said, preferred):
        axis.set_ylim(-0.03, 1.03)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    band(margin, [(p.coefficient, p.margin) for p in points], "#333333", "")
    margin.axhline(0, color="0.7", linewidth=0.8)
    highest, lowest = result.levels[-1], result.levels[0]
    margin.set(title=f"implicit reward, {highest} over {lowest}", ylabel="nats per token")
    for axis in axes:
        axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
        axis.set_xlabel(f"λ of the {result.vector} knob ({result.data})", fontsize=8)
