"""Spillover as a heat map: knob turned by domain asked."""

from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.files import write_figure

if TYPE_CHECKING:
    from alignvec.evaluate.spillover_record import Spillover


def plot_spillover(result: "Spillover", path: Path) -> None:
    """Draw the mean absolute change of preference rates, and of level rates if there are, into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    turned = list(dict.fromkeys((cell.knob, cell.coefficient) for cell in result.cells))
    kinds = [("likeliest reference reply", [cell.preference for cell in result.cells])]
    if all(cell.level for cell in result.cells):
        kinds.append(("level of generated replies", [cell.level for cell in result.cells if cell.level]))
    width, height = len(result.domains), len(turned)
    figure = Figure(figsize=(2.2 + 1.5 * width * len(kinds), 1.6 + 0.42 * height), layout="constrained")
    for (title, shifts), axis in zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0], strict=True):
        sizes = [100 * shift.size.value for shift in shifts]
        table = [sizes[i * width : (i + 1) * width] for i in range(height)]
        image = axis.imshow(table, cmap="Oranges", vmin=0, vmax=60, aspect="auto")
        for place, cell in enumerate(result.cells):
            row, column = divmod(place, width)
            axis.text(
                column, row, f"{sizes[place]:.0f}", ha="center", va="center",
                color="white" if sizes[place] > 40 else "black", fontweight="bold" if cell.own else "normal",
            )  # fmt: skip
        axis.set_xticks(range(width), result.domains)
        axis.set_yticks(range(height), [f"{knob} {value:+g}" for knob, value in turned])
        axis.set_xlabel("domain asked (bold: the knob's own)", fontsize=8)
        axis.set_title(title, fontsize=10)
    figure.colorbar(image, ax=figure.axes, label="mean |change| of the rates, points", shrink=0.8)
    figure.suptitle(f"what a knob changes{', routed' if result.routed else ''} ({result.data})", fontsize=10)
    write_figure(path, figure)
