"""Agreement of judges as a picture: κ of every two with its interval, and the bound of trust."""

from pathlib import Path
from typing import TYPE_CHECKING

from alignvec.files import write_figure

if TYPE_CHECKING:
    from alignvec.evaluate.judged_record import Judged


def plot_agreement(result: "Judged", path: Path) -> None:
    """Draw κ, plain and weighted, of every two judges into a PNG; pairs without κ are named and left empty.

    Args:
        result: of two judges or more.
        path: of the PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    pairs = result.agreement.pairs
    figure = Figure(figsize=(7.5, 1.5 + 0.55 * len(pairs)), layout="constrained")
    axis = figure.subplots()
    told: set[str] = set()
    for shift, colour, label in ((-0.13, "C0", "κ"), (0.13, "C1", "κ, quadratic weights")):
        for place, pair in enumerate(pairs):
            found = pair.agreement.kappa if label == "κ" else pair.weighted
            if found.value is None:
                continue
            low, high = (found.value if end is None else end for end in (found.low, found.high))
            axis.plot([low, high], [place + shift] * 2, color=colour, linewidth=2)
            axis.plot(found.value, place + shift, "o", color=colour, label=None if label in told else label)
            told.add(label)
    bound = next((one.bound for one in result.agreement.trust), None)
    if bound is not None:
        axis.axvline(bound, color="grey", linestyle="--", linewidth=1, label=f"bound of trust, {bound:g}")
    names = [f"{' x '.join(pair.judges)}\n({pair.agreement.replies} replies)" for pair in pairs]
    axis.set_yticks(range(len(pairs)), names, fontsize=8)
    axis.set_ylim(len(pairs) - 0.5, -0.5)
    axis.set_xlim(min(axis.get_xlim()[0], -0.05), 1.02)
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set_xlabel("agreement beyond chance, 95 % intervals", fontsize=8)
    axis.set_title("judges against judges", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    write_figure(path, figure)
