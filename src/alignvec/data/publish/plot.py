"""A data set as pictures: words and readability at each level, and how many rows each split has."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvec.data.publish.statistics import BIN
from alignvec.data.schema import SPLITS
from alignvec.files import storage_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alignvec.data.publish.measure import Measured
    from alignvec.data.publish.statistics import Statistics

COLOURS = ("#b3541e", "#6b7a8f", "#1b6ca8", "#4d8b31", "#7b4ea3")
_EASE = (-20, 125)
"""Reading ease that is drawn; what is below is drawn at the edge, and above 121.22 there is none."""


def plot_statistics(measured: "Measured", statistics: "Statistics", folder: Path) -> list[Path]:
    """Draw words.png, readability.png (if readability was measured) and splits.png into a folder.

    Raises:
        StorageError: if a picture cannot be written.
    """
    import numpy as np

    words = {level: np.asarray(values) for level, values in measured.words.items()}
    most = max(int(values.max()) for values in words.values())
    width = BIN * (most // 600 + 1)
    pictures = {"words.png": _histogram(words, np.arange(0, most + 2 * width, width), "words of a reply")}
    if all(level.reading_ease for level in statistics.by_level.values()):
        ease = {level: np.clip(np.asarray(values), *_EASE) for level, values in measured.reading_ease.items()}
        label = "Flesch reading ease of a reply (higher is easier)"
        pictures["readability.png"] = _histogram(ease, np.arange(_EASE[0], _EASE[1] + 1, 5), label)
    pictures["splits.png"] = _splits(statistics)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in pictures.items():
            figure.savefig(folder / name, dpi=130, metadata={"Software": None})
    return [folder / name for name in pictures]


def _histogram(values: dict[str, Any], bins: Any, label: str) -> "Figure":
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for i, (level, numbers) in enumerate(values.items()):
        known, colour = numbers[~np.isnan(numbers)], COLOURS[i % len(COLOURS)]
        axis.hist(known, bins=bins, histtype="stepfilled", color=colour, alpha=0.25)
        axis.hist(known, bins=bins, histtype="step", color=colour, label=level)
        axis.axvline(np.median(known), color=colour, linestyle="--", linewidth=1)
    axis.set(xlabel=f"{label}; dashed: median", ylabel="replies")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    return figure


def _splits(statistics: "Statistics") -> "Figure":
    from matplotlib.figure import Figure

    domains = list(dict.fromkeys(part.domain for part in statistics.parts))
    figure = Figure(figsize=(7.5, 1.4 + 0.5 * len(domains)), layout="constrained")
    axis = figure.subplots()
    rows = {(part.domain, part.split): part.rows for part in statistics.parts}
    starts = dict.fromkeys(domains, 0)
    for i, split in enumerate(SPLITS):
        numbers = [rows.get((domain, split), 0) for domain in domains]
        bars = axis.barh(domains, numbers, left=list(starts.values()), height=0.6, color=COLOURS[i], label=split)
        axis.bar_label(
            bars, [str(number) if number else "" for number in numbers], label_type="center", color="white", fontsize=8
        )
        starts = {domain: starts[domain] + number for domain, number in zip(domains, numbers, strict=True)}
    axis.invert_yaxis()
    axis.set_xlabel("rows")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
