"""A calibration as a table, JSON and a picture."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from alignvec.files import write_text
from alignvec.provenance import Provenance
from alignvec.vectors.calibration import Calibration


class CalibrationResult(BaseModel):
    """What `calibration.json` holds.

    Attributes:
        vector: the knob's name.
        base: the base model's name.
        calibration: what a card keeps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vector: str
    base: str
    calibration: Calibration
    provenance: Provenance


def rows_of(found: Calibration) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Columns and rows of the table: what was measured at every λ, and whether it is usable."""
    levels = found.levels
    columns = ("λ", *levels, "perplexity", "broken", "foreign", "usable")
    rows = [
        (
            f"{p.coefficient:g}",
            *(f"{p.level_rate[level]:.2f}" for level in levels),
            f"{p.perplexity:.2f}",
            f"{p.degenerate:.2f}",
            f"{p.off_language:.2f}",
            "yes" if found.usable[0] <= p.coefficient <= found.usable[1] else "no",
        )
        for p in found.points
    ]
    return columns, rows


def summary(found: Calibration) -> str:
    """Lines for people: the usable range and why it ends, the rates at its ends, the positions, the judge."""
    low, high = found.usable
    first, last = found.curve[0].level_rate, found.curve[-1].level_rate
    top = found.levels[-1]
    positions = ", ".join(f"{level} at λ = {value:g}" for level, value in found.settings.items())
    return "\n".join(
        [
            f"usable from λ = {low:g} ({found.ends()['lowest']}) to {high:g} ({found.ends()['highest']})",
            f"{top} replies, fitted: {first.highest.told()} to {last.highest.told()}",
            f"recommended: {positions}",
            found.judge,
        ]
    )


def write_calibration(result: CalibrationResult, out: Path) -> None:
    """Write calibration.json and calibration.png into a folder.

    Raises:
        StorageError: if it cannot be written.
    """
    from alignvec.solve.calibration_plot import plot_calibration

    write_text(out / "calibration.json", result.model_dump_json(indent=1) + "\n")
    plot_calibration(result.vector, result.calibration, out / "calibration.png")
