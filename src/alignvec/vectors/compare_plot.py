"""A comparison of vectors as a picture: cosines in all and by layer, norms in all and by layer."""

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvec.files import storage_errors

if TYPE_CHECKING:
    from alignvec.vectors.compare import Comparison

_COLOURS = ("#b3541e", "#1b6ca8", "#4d8b31", "#7b4ea3", "#6b7a8f")
_DIVERGING = ("#1b6ca8", "#f7f7f7", "#b3541e")
_UNKNOWN = "0.85"
"""Colour of a cosine with a delta that is zero."""


def plot_comparison(comparison: "Comparison", path: Path) -> None:
    """Draw cosines (above) and norms (below), in all (left) and by layer (right), into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    labels, layers = comparison.labels, comparison.layers
    pairs = list(combinations(range(len(labels)), 2))
    left, right = max(3.4, 0.62 * len(labels)), max(6.0, 0.24 * len(layers))
    upper, lower = max(2.8, 0.24 * len(pairs), 0.55 * len(labels)), max(2.4, 0.3 * len(labels))
    figure = Figure(figsize=(left + right + 2.6, upper + lower + 1.0), layout="constrained")
    grid = figure.subplots(2, 2, width_ratios=(left, right), height_ratios=(upper, lower))
    image = _cosines_in_all(grid[0][0], comparison)
    _cosines_by_layer(grid[0][1], comparison, pairs)
    _norms_in_all(grid[1][0], comparison)
    _norms_by_layer(grid[1][1], comparison)
    figure.colorbar(image, ax=grid[0], pad=0.01, aspect=30).ax.tick_params(labelsize=8)
    part = path.with_name(f".{path.name}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(part, dpi=130, format="png")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _cosines_in_all(axis: Any, comparison: "Comparison") -> Any:
    labels, cosines = comparison.labels, comparison.total.cosines
    image = _heat(axis, cosines)
    axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_title("cosine in all", fontsize=10)
    for i, row in enumerate(cosines):
        for j, value in enumerate(row):
            colour = "white" if abs(value or 0.0) > 0.6 else "black"
            axis.text(
                j, i, "-" if value is None else f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8
            )
    return image


def _cosines_by_layer(axis: Any, comparison: "Comparison", pairs: list[tuple[int, int]]) -> None:
    labels = comparison.labels
    _heat(axis, [[layer.cosines[i][j] for layer in comparison.layers.values()] for i, j in pairs])
    axis.set_yticks(range(len(pairs)), [f"{labels[i]} · {labels[j]}" for i, j in pairs], fontsize=8)
    axis.set_title("cosine by layer", fontsize=10)
    _layer_ticks(axis, comparison)


def _norms_in_all(axis: Any, comparison: "Comparison") -> None:
    labels, norms = comparison.labels, comparison.total.norms
    bars = axis.barh(range(len(labels)), norms, height=0.6)
    for i, bar in enumerate(bars):
        bar.set(color=_style(labels, i)["color"], alpha=0.6 if labels[i].endswith("-") else 1.0)
    axis.bar_label(bars, [f"{norm:#.3g}" for norm in norms], fontsize=8, padding=3)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title("norm in all", fontsize=10)


def _norms_by_layer(axis: Any, comparison: "Comparison") -> None:
    layers = list(comparison.layers)
    numbered = sum(layer.isdigit() for layer in layers)
    for i, label in enumerate(comparison.labels):
        norms = [layer.norms[i] for layer in comparison.layers.values()]
        style = _style(comparison.labels, i)
        axis.plot(range(numbered), norms[:numbered], markersize=3, label=label, **style)
        axis.plot(range(numbered, len(norms)), norms[numbered:], "o", color=style["color"], markersize=4)
    axis.set_xlim(-0.5, len(layers) - 0.5)
    axis.set_ylim(bottom=0)
    axis.tick_params(axis="y", labelsize=8)
    axis.set_title("norm by layer", fontsize=10)
    axis.legend(frameon=False, fontsize=8, ncols=2)
    _layer_ticks(axis, comparison)


def _style(labels: tuple[str, ...], i: int) -> dict[str, Any]:
    """Both sides of a vector have one colour; that of λ < 0 is dashed."""
    names = list(dict.fromkeys(label.rstrip("+-") for label in labels))
    colour = _COLOURS[names.index(labels[i].rstrip("+-")) % len(_COLOURS)]
    return {"color": colour, "linestyle": "--" if labels[i].endswith("-") else "-", "marker": "o"}


def _layer_ticks(axis: Any, comparison: "Comparison") -> None:
    layers = list(comparison.layers)
    apart = len(layers) // 40 + 1
    shown = [i for i, layer in enumerate(layers) if not layer.isdigit() or i % apart == 0]
    axis.set_xticks(shown, [layers[i] for i in shown], fontsize=7)
    axis.set_xlabel("layer", fontsize=8)
    for tick, i in zip(axis.get_xticklabels(), shown, strict=True):
        if not layers[i].isdigit():
            tick.set(rotation=40, ha="right", rotation_mode="anchor")


def _heat(axis: Any, values: Any) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("cosine", _DIVERGING).with_extremes(bad=_UNKNOWN)
    known = [[float("nan") if value is None else value for value in row] for row in values]
    return axis.imshow(known, cmap=colours, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
