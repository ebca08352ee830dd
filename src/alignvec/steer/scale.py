"""What a knob's positions mean: levels, percentages, and the range in which it was measured to work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from numbers import Real

from alignvec.errors import KnobError
from alignvec.vectors.card import Card


@dataclass(frozen=True)
class Scale:
    """The positions of one knob.

    Attributes:
        name: the vector's name.
        levels: level to its recommended λ.
        usable: lowest and highest λ within the calibration's limits, else that was measured; None if nothing was.
        curve: (λ, share of the way from the base's behaviour to the highest level's), rising from (0, 0) to (·, 1).
    """

    name: str
    levels: Mapping[str, float] = field(default_factory=dict)
    usable: tuple[float, float] | None = None
    curve: Sequence[tuple[float, float]] = ()

    def coefficient(self, value: float | str) -> float:
        """λ of a number, a level (`expert`), or a percentage (`80%`, see `curve`; at most 100%).

        Raises:
            KnobError: if the value is none of these, or not finite.
        """
        if isinstance(value, str) and value.strip() in self.levels:
            return self.levels[value.strip()]
        if isinstance(value, str) and value.strip().endswith("%"):
            return self._percent(value.strip())
        try:
            if isinstance(value, bool) or not isinstance(value, str | Real):  # numpy's truth values are no Real
                raise TypeError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            also = f", a level ({', '.join(self.levels)}) or a percentage" if self.levels else ""
            raise KnobError(
                f"knob {self.name!r}: {str(value)[:40]!r} is not a number{also}; write it like {self.name}=0.5"
            ) from None
        if not isfinite(number):
            raise KnobError(f"knob {self.name!r}: {value} is not a finite number; write it like {self.name}=0.5")
        return number

    def _percent(self, text: str) -> float:
        try:
            share = float(text.removesuffix("%")) / 100
        except ValueError:
            share = float("nan")
        if not self.curve:
            raise KnobError(
                f"knob {self.name!r}: its card names no levels, or the highest at λ = 0, so {text} means nothing; "
                "use a number, or measure its levels with `alignvec calibrate --card`"
            )
        if not 0 <= share <= 1:
            raise KnobError(
                f"knob {self.name!r}: {text} is not between 0% (base) and 100% (highest level); "
                "for other settings use a level or a number"
            )
        if not share:
            return 0.0
        for (left, low), (right, high) in pairwise(self.curve):
            if share <= high and high > low:
                return round(left + (right - left) * (share - low) / (high - low), 6)
        return self.curve[-1][0]


def scale_of(card: Card) -> Scale:
    """The scale that a vector's card describes.

    Levels and the usable range are the calibration's, if the card has one. A percentage is measured behaviour where
    the card has level rates: the calibration's fitted curve, else their running maximum, between λ = 0 and the highest
    level's setting, as a share of the way; else λ itself as a share of that setting.
    """
    if card.calibration:
        found = card.calibration
        rates = [(p.coefficient, p.level_rate.highest.value) for p in found.curve]
        end = found.settings.get(found.levels[-1], 0.0)
        return Scale(card.name, {**card.settings, **found.settings}, found.usable, _curve(rates, end))
    measured = sorted(p.coefficient for p in card.measured.curve) if card.measured else []
    usable = (min(measured[0], 0.0), max(measured[-1], 0.0)) if measured else None
    top = card.levels[-1] if card.levels else ""
    points = card.measured.curve if card.measured else ()
    rates = [(p.coefficient, p.level_rate[top].value) for p in points if top in p.level_rate]
    return Scale(card.name, dict(card.settings), usable, _curve(rates, card.settings.get(top, 0.0)))


def _curve(rates: Sequence[tuple[float, float]], end: float) -> Sequence[tuple[float, float]]:
    """Share of the way from the rate at 0 to that at `end`, by (λ, rate of the highest level)."""
    if not end:
        return ()
    points = sorted(
        (point for point in rates if min(0.0, end) <= point[0] <= max(0.0, end)), key=lambda point: abs(point[0])
    )
    straight = ((0.0, 0.0), (end, 1.0))
    if not points or points[0][0] != 0.0 or points[-1][0] != end:
        return straight
    highest, rising = points[0][1], []
    for coefficient, rate in points:
        highest = max(highest, rate)
        rising.append((coefficient, highest))
    low, high = rising[0][1], rising[-1][1]
    return tuple((c, (rate - low) / (high - low)) for c, rate in rising) if high > low else straight
