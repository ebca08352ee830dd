"""A calibration as a picture: fitted rates with bands, the usable range, recommended positions, and the limits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from alignvec.evaluate.drawing import COLOURS
from alignvec.files import write_figure
from alignvec.vectors.calibration import Calibration, Rising
from alignvec.vectors.strict import Interval

Meter = Literal["level_rate", "preference_rate"]
HEADROOM = 1.6
"""Top of the axis of perplexity over its limit; far beyond it, how far no longer matters."""


def plot_calibration(name: str, found: Calibration, path: Path) -> None:
    """Draw the calibration of the vector `name` into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    said, preferred, limits = figure.subplots(1, 3)
    _rates(said, found, "level_rate")
    said.set(title=f"{name}: level of {found.generation['queries']} generated replies", ylabel="level rate")
    _rates(preferred, found, "preference_rate")
    preferred.set(title="likeliest reference reply (per token)", ylabel=f"preference rate, {found.queries} queries")
    _limits(limits, found)
    limits.set_title("limits (dotted)")
    for axis in (said, preferred, limits):
        axis.axvspan(*found.usable, color="0.94", zorder=0)
        axis.set_xlabel(f"λ of the {name} knob ({found.data}); shaded: usable", fontsize=8)
    write_figure(path, figure)


def _rates(axis: Any, found: Calibration, meter: Meter) -> None:
    """Counted rates as dots, fitted ones of the two ends as lines with bands, recommended positions as triangles."""
    fits: list[Rising] = [getattr(point, meter) for point in found.curve]
    fitted = {
        found.levels[-1]: [one.highest for one in fits],
        found.levels[0]: [_complement(one.above_lowest) for one in fits],
    }
    lambdas = [point.coefficient for point in found.curve]
    for i, level in enumerate(found.levels):
        colour = COLOURS[i % len(COLOURS)]
        counted = [getattr(point, meter)[level] for point in found.points]
        style = "o" if level in fitted else "o:"
        axis.plot([p.coefficient for p in found.points], counted, style, color=colour, markersize=4, label=level)
        if level in fitted:
            _band(axis, lambdas, fitted[level], colour)
        if level in found.settings:
            axis.plot([found.settings[level]], [-0.05], "^", color=colour, markersize=8, clip_on=False)
    axis.set_ylim(-0.05, 1.05)
    axis.legend(frameon=False, fontsize=8, title="▲ recommended", title_fontsize=8)


def _limits(axis: Any, found: Calibration) -> None:
    lambdas = [point.coefficient for point in found.points]
    axis.plot(lambdas, [p.perplexity for p in found.points], "o-", color="#333333", markersize=4, label="perplexity")
    axis.axhline(found.limits.perplexity, color="#333333", linestyle=":")
    axis.set_ylim(min(0.9, *(p.perplexity for p in found.points)), HEADROOM * found.limits.perplexity)
    axis.set_ylabel("perplexity of general text / base's")
    shares = axis.twinx()
    base = next(point for point in found.points if point.coefficient == 0)
    for colour, name in (("#b3541e", "degenerate"), ("#1b6ca8", "off_language")):
        values = [getattr(point, name) for point in found.points]
        shares.plot(lambdas, values, "s-", color=colour, markersize=4, label=f"{name.replace('_', '-')} (right)")
        shares.axhline(getattr(base, name) + getattr(found.limits, name), color=colour, linestyle=":")
    shares.set_ylim(-0.03, 1.03)
    shares.set_ylabel("share of replies")
    handles = [*axis.get_lines()[:1], *shares.get_lines()[::2]]
    shares.legend(handles, [line.get_label() for line in handles], frameon=False, fontsize=8, loc="upper center")


def _complement(rate: Interval) -> Interval:
    if rate.low is None or rate.high is None:
        return Interval(value=1 - rate.value, low=None, high=None)
    return Interval(value=1 - rate.value, low=1 - rate.high, high=1 - rate.low)


def _band(axis: Any, lambdas: Sequence[float], rates: Sequence[Interval], colour: str) -> None:
    axis.plot(lambdas, [rate.value for rate in rates], "-", color=colour)
    low, high = zip(*(rate.drawn for rate in rates), strict=True)
    axis.fill_between(lambdas, low, high, color=colour, alpha=0.15)
