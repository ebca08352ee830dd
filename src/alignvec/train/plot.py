"""Loss and reward margin over a run, as a picture."""

from pathlib import Path
from typing import Any

from alignvec.files import write_figure


def plot_training(record: dict[str, Any], path: Path) -> None:
    """Draw loss, and of a preference loss the margin between chosen and rejected, by optimiser step into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    history = [entry for entry in record["history"] if "loss" in entry]
    steps = [entry["step"] for entry in history]
    preference = record["config"]["loss"] != "sft"
    figure = Figure(figsize=(9 if preference else 5, 3.4), layout="constrained")
    left, *others = figure.subplots(1, 1 + preference, squeeze=False)[0]
    left.plot(steps, [entry["loss"] for entry in history], color="#1b6ca8")
    title = f"loss ({record['side']}: {record['order']})".replace(",", ",\n")
    left.set(title=title, xlabel="optimiser step", ylabel="nats")
    for right in others:
        right.plot(steps, [entry["margins_per_token"] for entry in history], color="#b3541e")
        right.set(title="margin, chosen over rejected", xlabel="optimiser step", ylabel="nats per token, against base")
        right.axhline(0, color="0.7", linewidth=0.8)
    write_figure(path, figure)
