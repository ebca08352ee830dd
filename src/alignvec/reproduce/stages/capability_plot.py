"""What each knob costs elsewhere, as a picture."""

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.evaluate.plot import COLOURS, band
from alignvec.files import write_figure

if TYPE_CHECKING:
    from alignvec.reproduce.stages.capability import Capabilities


def plot_costs(found: "Capabilities", path: Path) -> None:
    """Draw what each knob costs over λ, a panel a measure, into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    perplexity, answers, followed = figure.subplots(1, 3)
    for colour, (name, costs) in zip(cycle(COLOURS), found.costs.items(), strict=False):
        xs = found.coefficients
        band(perplexity, [(x, c.perplexity.change) for x, c in zip(xs, costs, strict=True)], colour, name)
        band(answers, [(x, c.answers.value) for x, c in zip(xs, costs, strict=True)], colour, name)
        band(followed, [(x, c.followed.value) for x, c in zip(xs, costs, strict=True)], colour, name)
    perplexity.set(title="general text", ylabel="perplexity, times the base's")
    answers.set(title="questions with four choices", ylabel="share answered right")
    answers.axhline(0.25, color="0.6", linewidth=0.8, linestyle="--")
    followed.set(title="checkable instructions", ylabel="share followed")
    for axis in (perplexity, answers, followed):
        axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
        axis.set_xlabel("λ")
    perplexity.legend(frameon=False, fontsize=8)
    write_figure(path, figure)
