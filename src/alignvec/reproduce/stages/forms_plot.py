"""Levels over λ by form of the vector, as a picture."""

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from alignvec.evaluate.drawing import COLOURS, band
from alignvec.files import write_figure

if TYPE_CHECKING:
    from alignvec.reproduce.stages.forms_record import Forms


def plot_forms(found: "Forms", path: Path, *, what: Literal["said", "preferred"]) -> None:
    """Draw rates of levels over λ, a row a domain and a column a form, into a PNG.

    Args:
        found: what was measured.
        path: of the PNG.
        what: levels of generated replies, or of the likeliest reference reply.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    forms = list(found.best)
    domains = list(dict.fromkeys(point.domain for point in found.points))
    figure = Figure(figsize=(4 * len(forms), 2.6 * len(domains) + 0.4), layout="constrained")
    grid = figure.subplots(len(domains), len(forms), squeeze=False, sharex="col", sharey=True)
    for row, domain in zip(grid, domains, strict=True):
        for axis, form in zip(row, forms, strict=True):
            points = [point for point in found.points if (point.form, point.domain) == (form, domain)]
            for colour, level in zip(cycle(COLOURS), found.levels, strict=False):
                band(axis, [(p.coefficient, getattr(p, what).get(level)) for p in points], colour, level)
            if what == "said":
                xs, ys = zip(*((p.coefficient, p.degenerate.value) for p in points), strict=True)
                axis.plot(xs, ys, "k:", linewidth=1, label="degenerate")
            axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
            axis.set_ylim(-0.03, 1.03)
            if domain == domains[0]:
                axis.set_title(f"{form}{' (default)' if form == found.chosen else ''}")
            if domain == domains[-1]:
                axis.set_xlabel("λ")
        row[0].set_ylabel(f"{domain}\n{'level rate' if what == 'said' else 'preference rate'}")
    grid[0][0].legend(frameon=False, fontsize=8)
    write_figure(path, figure)
