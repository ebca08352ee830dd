"""What pictures of measurements share: their colours, and a curve over λ with its band."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignvec.vectors.strict import Interval

COLOURS = ("#b3541e", "#6b7a8f", "#1b6ca8", "#4d8b31", "#7b4ea3")


def band(axis: Any, values: Sequence[tuple[float, "Interval | None"]], colour: str, label: str) -> None:
    """Draw values by λ as a line, and their intervals as a band around it; unknown values are left out."""
    known = [(x, y) for x, y in values if y is not None]
    if known:
        xs = [x for x, _ in known]
        axis.plot(xs, [y.value for _, y in known], "o-", color=colour, label=label or None, markersize=4)
        low, high = zip(*(y.drawn for _, y in known), strict=True)
        axis.fill_between(xs, low, high, color=colour, alpha=0.15)
