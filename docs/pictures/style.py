"""What the pictures of the concepts have in common: an opaque card, readable on a light page and on a dark one."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
INK, SOFT, PAPER = "#22303c", "#6b7a8f", "#fbfaf7"
LOW, HIGH, THIRD = "#b3541e", "#1b6ca8", "#4d8b31"
"""The colours of the project's other plots: avoidance, expert, and a third."""

DIVERGING = LinearSegmentedColormap.from_list("levels", [LOW, "#e6b08c", PAPER, "#92bfe0", HIGH])
SEQUENTIAL = LinearSegmentedColormap.from_list("points", [PAPER, "#92bfe0", HIGH, "#0c3552"])


def figure(width: float, height: float) -> Figure:
    """An empty figure in the common style."""
    matplotlib.rcParams.update(
        {
            "font.size": 10,
            "axes.edgecolor": SOFT,
            "axes.labelcolor": INK,
            "axes.titlesize": 10.5,
            "axes.titlecolor": INK,
            "axes.titlelocation": "left",
            "xtick.color": SOFT,
            "ytick.color": SOFT,
            "text.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.facecolor": PAPER,
            "figure.facecolor": PAPER,
            "legend.frameon": False,
        }
    )
    return Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)


def save(drawn: Figure, path: Path) -> Path:
    """Write a picture, and make its folder if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=130, metadata={"Software": None})
    return path


def bare(axes: Any) -> None:
    """Take frame and ticks away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
