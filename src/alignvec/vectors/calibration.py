"""What a card says of a knob's behaviour beyond its measured curve: calibration, and spillover into other domains."""

from collections.abc import Sequence
from typing import Any, Literal

from alignvec.vectors.strict import Interval, Strict


class Limits(Strict):
    """How far a knob may change the model before it counts as broken.

    Attributes:
        perplexity: highest perplexity of the general text, as a multiple of the base's.
        degenerate: highest share of replies that are empty or loop, above the base's.
        off_language: highest share of replies in another language than the wanted one, above the base's.
    """

    perplexity: float = 1.25
    degenerate: float = 0.1
    off_language: float = 0.05


class CalibrationPoint(Strict):
    """What was measured at one coefficient; what the limits are about, and shares as they were counted.

    Attributes:
        coefficient: λ.
        level_rate: level to share of generated replies.
        preference_rate: level to share of queries whose reference reply of that level is the likeliest per token.
        perplexity: of the general text, as a multiple of the base's.
        degenerate: share of generated replies.
        off_language: share of generated replies.
        broken: names of the limits that do not hold here.
    """

    coefficient: float
    level_rate: dict[str, float]
    preference_rate: dict[str, float]
    perplexity: float
    degenerate: float
    off_language: float
    broken: Sequence[str] = ()


class Rising(Strict):
    """Rates that rise with λ, fitted so, with 95 % bands.

    Attributes:
        highest: rate of the highest level.
        above_lowest: rate of all levels but the lowest.
    """

    highest: Interval
    above_lowest: Interval


class FittedPoint(Strict):
    """The monotone curves at one coefficient.

    Attributes:
        coefficient: λ.
        level_rate: of generated replies.
        preference_rate: of the likeliest reference replies, per token.
    """

    coefficient: float
    level_rate: Rising
    preference_rate: Rising


class Calibration(Strict):
    """From λ to behaviour, and how far the knob can be turned.

    Attributes:
        data: name of the data and split.
        queries: number of queries.
        text: the general text whose perplexity is limited.
        language: code of the language that replies should be in.
        generation: sampling settings of the generated replies.
        judge: the judge's own accuracy, in words.
        levels: lowest first.
        limits: what bounds the usable range.
        usable: lowest and highest λ up to which every measured point from 0 on is within the limits.
        points: everything that was measured, by λ; beyond the usable range too.
        curve: the fitted curves over the usable range, by λ.
        settings: recommended coefficient of each level.
    """

    data: str
    queries: int
    text: str
    language: str
    generation: dict[str, Any]
    judge: str
    levels: Sequence[str]
    limits: Limits
    usable: tuple[float, float]
    points: Sequence[CalibrationPoint]
    curve: Sequence[FittedPoint]
    settings: dict[str, float]

    def ends(self) -> dict[Literal["lowest", "highest"], str]:
        """Why the range ends where it does, for its lowest and its highest λ, in words."""
        below = [point for point in self.points if point.coefficient < self.usable[0]][-1:]
        above = [point for point in self.points if point.coefficient > self.usable[1]][:1]
        return {"lowest": _why(below), "highest": _why(above)}


def _why(beyond: Sequence[CalibrationPoint]) -> str:
    if not beyond:
        return "nothing was measured beyond"
    return f"at λ = {beyond[0].coefficient:g} beyond the limit of {', '.join(beyond[0].broken).replace('_', '-')}"


class SpilloverPoint(Strict):
    """What the knob changes in one domain at one coefficient.

    Attributes:
        coefficient: λ.
        domain: of the queries; the knob's own included.
        preference: mean absolute change of the preference rates of the levels, per token, against the base.
        perplexity: of the queries' reference replies of the middle level, as a multiple of the base's.
    """

    coefficient: float
    domain: str
    preference: Interval
    perplexity: Interval


class Spillover(Strict):
    """What the knob changes in every domain, without a router.

    Attributes:
        data: the queries.
        points: by λ, then domain.
    """

    data: str
    points: Sequence[SpilloverPoint]
