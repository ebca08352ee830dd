"""What each knob costs elsewhere, as a picture."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from alignvec.evaluate.capability_record import Cost
from alignvec.evaluate.drawing import COLOURS, band
from alignvec.files import write_figure


def plot_costs(costs: Mapping[str, Sequence[Cost]], coefficients: Sequence[float], path: Path) -> None:
    """Draw what each knob costs over λ, a panel a measure, into a PNG.

    Args:
        costs: knob to its costs, one for each of the coefficients.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    perplexity, answers, followed = figure.subplots(1, 3)
    for colour, (name, own) in zip(cycle(COLOURS), costs.items(), strict=False):
        band(perplexity, [(x, c.perplexity.change) for x, c in zip(coefficients, own, strict=True)], colour, name)
        band(answers, [(x, c.answers.value) for x, c in zip(coefficients, own, strict=True)], colour, name)
        band(followed, [(x, c.followed.value) for x, c in zip(coefficients, own, strict=True)], colour, name)
    perplexity.set(title="general text", ylabel="perplexity, times the base's")
    answers.set(title="questions with four choices", ylabel="share answered right")
    answers.axhline(0.25, color="0.6", linewidth=0.8, linestyle="--")
    followed.set(title="checkable instructions", ylabel="share followed")
    for axis in (perplexity, answers, followed):
        axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
        axis.set_xlabel("λ")
    perplexity.legend(frameon=False, fontsize=8)
    write_figure(path, figure)
