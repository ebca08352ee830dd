"""Transfers as a picture: native against foreign vector at each stage, and the share of the effect that is kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvec.evaluate.transfer_kept import ORIGINS
from alignvec.files import write_figure
from alignvec.vectors.strict import Interval

if TYPE_CHECKING:
    from alignvec.evaluate.transfer_kept import Kept
    from alignvec.evaluate.transfer_record import Transfer

STYLES = {"native": "-", "foreign": "--"}
COLOURS = {"native": "#1b6ca8", "foreign": "#b3541e"}
LOWEST, HIGHEST = "#6b4ea3", "#3d7a28"


def plot_transfers(results: Sequence["Transfer"], path: Path, *, stages: Sequence[str] = ()) -> None:
    """Draw one row of panels a transfer into a PNG.

    Args:
        results: the transfers.
        path: of the PNG.
        stages: what each is turned on, in words; default: the names of the folders.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.7 * len(results)), layout="constrained")
    names = stages or [f"stage {Path(result.stage).name}" for result in results]
    rows = figure.subplots(len(results), 3, squeeze=False)
    for result, stage, (margin, said, kept) in zip(results, names, rows, strict=True):
        for origin in ORIGINS:
            points = [(e.coefficient, e.margin) for e in result.effects if e.origin == origin or not e.coefficient]
            _curve(margin, points, COLOURS[origin], STYLES[origin], origin)
        margin.set(title=f"{result.vector} on {stage}: margin", ylabel="nats per token")
        margin.axhline(0, color="0.7", linewidth=0.8)
        _levels(said, result)
        for axis in (margin, said):
            axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
            axis.set_xlabel(f"λ ({result.data})", fontsize=8)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(frameon=False, fontsize=8, handlelength=3.5)
        _shares(kept, result.kept)
    write_figure(path, figure)


def _levels(axis: Any, result: "Transfer") -> None:
    axis.set(title=f"level of {result.generated} generated replies", ylabel="level rate", ylim=(-0.03, 1.03))
    for level, colour in ((result.levels[0], LOWEST), (result.levels[-1], HIGHEST)):
        for origin in ORIGINS:
            effects = [e for e in result.effects if e.origin == origin or not e.coefficient]
            points = [(e.coefficient, e.level_rate[level]) for e in effects if level in e.level_rate]
            _curve(axis, points, colour, STYLES[origin], f"{level}, {origin}")


def _shares(axis: Any, kept: Sequence["Kept"]) -> None:
    axis.set(title="effect kept: foreign over native", xlabel="share of the native effect")
    names = [_name(one) for one in kept]
    for place, one in enumerate(kept):
        if one.kept is None:
            axis.text(0.03, place, "native effect not told from none", va="center", fontsize=7, color="0.4")
            continue
        low, high = one.kept.drawn
        axis.barh(place, one.kept.value, color="#9db8cc" if one.measure == "margin" else "#b9d0ad", height=0.65)
        axis.plot([low, high], [place, place], color="0.25", linewidth=1.4)
    axis.axvline(1, color="0.3", linewidth=0.8, linestyle=":")
    axis.set_xlim(left=min([0.0, *(one.kept.drawn[0] for one in kept if one.kept)]))
    axis.set_xlim(right=max([1.1, *(1.05 * one.kept.drawn[1] for one in kept if one.kept)]))
    axis.set_yticks(range(len(kept)), names, fontsize=8)
    axis.invert_yaxis()


def _name(one: "Kept") -> str:
    if one.coefficient is None:
        return "margin, all λ"
    return f"{one.level or 'margin'} at {one.coefficient:g}"


def _curve(axis: Any, points: Sequence[tuple[float, Interval]], colour: str, style: str, label: str) -> None:
    if not points:
        return
    ordered = sorted(points, key=lambda point: point[0])
    xs = [x for x, _ in ordered]
    inside = colour if style == "-" else "white"
    values = [y.value for _, y in ordered]
    axis.plot(xs, values, f"o{style}", color=colour, label=label, markersize=4, markerfacecolor=inside)
    low, high = zip(*(y.drawn for _, y in ordered), strict=True)
    axis.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
