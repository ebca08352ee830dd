"""What a knob costs over λ as a picture: perplexity, and shares of questions and instructions."""

from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.evaluate.drawing import COLOURS, band
from alignvec.files import write_figure

if TYPE_CHECKING:
    from alignvec.evaluate.capability_record import Capability

CHANCE = 0.25
"""Share of four-choice questions that is right by chance."""


def plot_capability(result: "Capability", path: Path) -> None:
    """Draw one panel a figure, with 95 % bands and the base's value, into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    from alignvec.evaluate.capability_record import MEASURES, measured

    titles = {
        "perplexity": f"perplexity, {result.text} texts",
        "answers": f"right answer likeliest per token, {result.questions} questions",
        "letters": f"right letter likeliest, {result.questions} questions",
        "followed": f"instructions followed, {result.instructions} instructions",
    }
    xs = result.coefficients()
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axis, name, colour in zip(figure.subplots(2, 2).flat, MEASURES, COLOURS, strict=False):
        points = [(x, measured(cost, name).value) for x, cost in zip(xs, result.curve, strict=True)]
        band(axis, points, colour, "")
        axis.axhline(dict(points)[0.0].value, color="0.7", linewidth=0.8, label="base")
        if name == "perplexity":
            axis.set_yscale(
                "log" if max(y.value for _, y in points) > 10 * min(y.value for _, y in points) else "linear"
            )
        else:
            axis.set_ylim(-0.03, 1.03)
        if name in ("answers", "letters"):
            axis.axhline(CHANCE, color="0.3", linewidth=0.8, linestyle=":", label="chance")
        axis.set_title(titles[name], fontsize=10)
        axis.set_xlabel(f"λ of the {result.vector} knob", fontsize=8)
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(f"what the {result.vector} knob costs ({result.data})", fontsize=10)
    write_figure(path, figure)
