"""Methods compared, as a picture: rate of the wanted level, and what it spills over."""

from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.files import write_figure

if TYPE_CHECKING:
    from alignvec.reproduce.methods.methods_result import Comparison
    from alignvec.vectors.strict import Interval

MARKERS = "oosD^v<>PXhp"


def plot_methods(result: "Comparison", path: Path) -> None:
    """Draw level rates by method, and level rate against spillover, into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    names = [one.card.name for one in result.methods]
    figure = Figure(figsize=(11, 1.8 + 0.34 * max(len(names), 8)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    for place, one in enumerate(result.methods):
        style = {"color": f"C{place % 10}", "marker": MARKERS[place % len(MARKERS)], "markersize": 6}
        rate = one.level_rate
        left.errorbar(rate.value, place, xerr=_ends(rate), capsize=3, **style)
        left.text(1.02, place, f"{sum(c.reached for c in one.cells)}/{len(one.cells)}", va="center", fontsize=8)
        if one.spillover is not None:
            x = 100 * one.spillover.value
            right.errorbar(
                x, rate.value, xerr=[[100 * v[0]] for v in _ends(one.spillover)], yerr=_ends(rate),
                linewidth=0.8, **style,
            )  # fmt: skip
            right.annotate(
                one.card.name, (x, rate.value), xytext=(5, 5), textcoords="offset points", fontsize=8,
                color=style["color"],
            )  # fmt: skip
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set(xlim=(0, 1), xlabel="rate of the wanted level (right: cells reached)")
    left.grid(axis="x", alpha=0.3)
    right.set(ylim=(0, 1), ylabel="rate of the wanted level")
    right.set_xlabel("spillover: mean |change| of level rates in other domains, points")
    right.grid(alpha=0.3)
    if missing := [one.card.name for one in result.methods if one.spillover is None]:
        right.set_title(f"spillover not measured: {', '.join(missing)}", fontsize=8)
    if len(missing) < len(names):
        right.set_xlim(left=min(0.0, right.get_xlim()[0]))
    figure.suptitle(f"{len(result.goals)} goals of {len(result.domains)} domains ({result.data})", fontsize=10)
    write_figure(path, figure)


def _ends(interval: "Interval") -> list[list[float]]:
    """Lengths of an error bar to both sides."""
    low, high = interval.drawn
    return [[max(interval.value - low, 0.0)], [max(high - interval.value, 0.0)]]
