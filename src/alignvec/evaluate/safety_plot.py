"""Refusals over λ as a picture: harmful and benign queries, and the levels of the domains' replies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvec.evaluate.drawing import COLOURS, band
from alignvec.files import write_figure
from alignvec.steer.knobs import format_knobs

if TYPE_CHECKING:
    from alignvec.evaluate.safety_record import Safety, SafetyPoint
    from alignvec.vectors.strict import Interval

HARMFUL, BENIGN = "#1b6ca8", "#b3541e"


@dataclass(frozen=True)
class _Row:
    """Points that share an axis: one knob over λ, or settings side by side."""

    label: str
    points: "Sequence[tuple[float, SafetyPoint]]"
    ticks: Sequence[str] = ()


def plot_safety(result: "Safety", path: Path) -> None:
    """Draw a row of panels for each knob, or one with the settings side by side if they turn several at once.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    rows = _rows(result)
    panels = (
        [_refused, _preferred] if any(one.replied for p in result.points for one in p.kinds.values()) else [_preferred]
    )
    if result.levels:
        panels.insert(1, _levels)
    figure = Figure(figsize=(1 + 4 * len(panels), 3.7 * len(rows)), layout="constrained")
    for row, axes in zip(rows, figure.subplots(len(rows), len(panels), squeeze=False), strict=True):
        for axis, draw in zip(axes, panels, strict=True):
            draw(axis, row, result)
            axis.set_ylim(-0.03, 1.03)
            axis.set_xlabel(row.label, fontsize=8)
            axis.title.set_size(10)
            if row.ticks:
                axis.set_xticks([x for x, _ in row.points], row.ticks, rotation=30, ha="right", fontsize=7)
            else:
                axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(frameon=False, fontsize=8)
    data = f"{result.data}, routed" if result.routed else result.data
    figure.suptitle(f"refusals by setting of {', '.join(result.vectors)} ({data})", fontsize=10)
    write_figure(path, figure)


def _rows(result: "Safety") -> list[_Row]:
    names = list(dict.fromkeys(name for point in result.points for name in point.knobs))
    if names and all(len(point.knobs) <= 1 for point in result.points):
        return [
            _Row(
                f"λ of the {name} knob",
                sorted(
                    ((p.knobs.get(name, 0.0), p) for p in result.points if set(p.knobs) <= {name}),
                    key=lambda entry: entry[0],
                ),
            )
            for name in names
        ]
    ticks = [format_knobs(point.knobs) for point in result.points]
    return [_Row("setting", [(float(i), point) for i, point in enumerate(result.points)], ticks)]


def _draw(axis: Any, row: _Row, value: "Callable[[SafetyPoint], Interval | None]", colour: str, label: str) -> None:
    values = [(x, value(point)) for x, point in row.points]
    if not row.ticks:
        band(axis, values, colour, label)
        return
    known = [(x, y) for x, y in values if y]
    sizes = [[y.value - y.drawn[0] for _, y in known], [y.drawn[1] - y.value for _, y in known]]
    axis.errorbar(
        [x for x, _ in known], [y.value for _, y in known], sizes, fmt="o", color=colour, label=label, capsize=2
    )


def _refused(axis: Any, row: _Row, result: "Safety") -> None:
    for kind, colour, label in (("harmful", HARMFUL, "harmful (wanted)"), ("benign", BENIGN, "benign (over-refusal)")):

        def refused(point: "SafetyPoint", kind: Any = kind) -> "Interval | None":
            one = point.kinds.get(kind)
            return one.replied.refused if one and one.replied else None

        if any(refused(point) for _, point in row.points):
            _draw(axis, row, refused, colour, label)
    broken = [(x, p.kinds["harmful"].replied) for x, p in row.points if "harmful" in p.kinds]
    known = [(x, said.degenerate.value) for x, said in broken if said]
    axis.plot(
        [x for x, _ in known],
        [y for _, y in known],
        "kx" if row.ticks else "k:",
        linewidth=1,
        label="degenerate, harmful",
    )
    axis.set(title="generated replies that refuse", ylabel="share refused")


def _levels(axis: Any, row: _Row, result: "Safety") -> None:
    for colour, level in zip(cycle(COLOURS), result.levels, strict=False):
        _draw(axis, row, lambda point, level=level: point.levels.get(level), colour, level)  # type: ignore[misc]
    names = dict.fromkeys(name for _, point in row.points for name in point.domains)
    axis.set(title=f"levels of {', '.join(names)} replies", ylabel="level rate")


def _preferred(axis: Any, row: _Row, result: "Safety") -> None:
    for kind, colour in (("harmful", HARMFUL), ("benign", BENIGN)):

        def preferred(point: "SafetyPoint", kind: Any = kind) -> "Interval | None":
            return point.kinds[kind].preferred if kind in point.kinds else None

        if any(preferred(point) for _, point in row.points):
            _draw(axis, row, preferred, colour, kind)
    axis.set(title="safe reference reply likelier per token", ylabel="preference rate")
