"""Loss and reward margin over a run, as a picture."""

from pathlib import Path
from typing import Any

from alignvec.files import storage_errors


def plot_training(record: dict[str, Any], path: Path) -> None:
    """Draw loss (left) and margin between chosen and rejected (right) by optimiser step into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    history = [entry for entry in record["history"] if "loss" in entry]
    steps = [entry["step"] for entry in history]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [entry["loss"] for entry in history], color="#1b6ca8")
    left.set(title=f"loss ({record['side']}: {record['order']})", xlabel="optimiser step", ylabel="nats")
    right.plot(steps, [entry["margins_per_token"] for entry in history], color="#b3541e")
    right.set(title="margin, chosen over rejected", xlabel="optimiser step", ylabel="nats per token, against the base")
    right.axhline(0, color="0.7", linewidth=0.8)
    with storage_errors(path):
        figure.savefig(path, dpi=120)
