"""Inference cost over the length of the system prompt, as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.evaluate.drawing import COLOURS
from alignvec.files import write_figure
from alignvec.reproduce.cost.ways import CLAIM

if TYPE_CHECKING:
    from alignvec.reproduce.cost.inference_record import Cost, InferenceCost

DRAWN: "tuple[Cost, ...]" = ("computed", "first_token", "per_token", "seconds")


def plot_inference(result: "InferenceCost", path: Path) -> None:
    """Draw costs, a row for each batch size and way of caching, into a PNG; bars: least and most of the rounds.

    The last column has one knob's share of the 3-shot prompt's costs.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    from alignvec.reproduce.cost.inference_record import COSTS, NAMES, WAYS

    curves = result.curves()
    figure = Figure(figsize=(15, 0.8 + 2.5 * len(curves)), layout="constrained")
    grid = figure.subplots(len(curves), len(DRAWN) + 1, squeeze=False, sharex=True)
    marks = dict(zip(WAYS, ("o-", "s--", "^-", "D-"), strict=True))
    for row, ((batch, cached), points) in zip(grid, curves.items(), strict=True):
        x = [point.system_tokens for point in points]
        for axis, cost in zip(row, DRAWN, strict=False):
            for colour, way in zip(COLOURS, WAYS, strict=False):
                spreads = [result.spread(point, way, cost) for point in points]
                middle = [one.median for one in spreads]
                bars = [
                    [m - s.least for m, s in zip(middle, spreads, strict=True)],
                    [s.most - m for m, s in zip(middle, spreads, strict=True)],
                ]
                axis.errorbar(x, middle, bars, fmt=marks[way], color=colour, label=NAMES[way], markersize=3.5, lw=1.2)
            axis.set_ylim(0, None)
        top = 1.0
        for colour, cost in zip(COLOURS, DRAWN, strict=False):
            shares = [result.share(point, "three_shot", cost).median for point in points]
            top = max(top, *shares)
            row[-1].plot(x, shares, "o-", color=colour, label=COSTS[cost], markersize=3.5, lw=1.2)
        row[-1].axhline(CLAIM, color="0.5", linewidth=0.8, linestyle=":")
        row[-1].set_ylim(0, 1.1 * top)
        row[0].set_ylabel(f"batch {batch}\ncaching {'on' if cached else 'off'}")
    for axis, cost in zip(grid[0], DRAWN, strict=False):
        axis.set_title(COSTS[cost], fontsize=10)
    grid[0][-1].set_title("1 knob / 3-shot (dotted: half)", fontsize=10)
    for axis in grid[-1]:
        axis.set_xlabel("tokens of the system prompt")
    grid[0][0].legend(frameon=False, fontsize=8)
    grid[0][-1].legend(frameon=False, fontsize=7)
    figure.suptitle(
        f"{result.domain}={result.level} asked for on {result.model}, {result.new_tokens} tokens a reply", fontsize=11
    )
    write_figure(path, figure)
