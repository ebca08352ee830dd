"""The share of a native vector's effect that a foreign one keeps, with intervals over the same resampled personas."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.statistics import persona_weights, spread
from alignvec.vectors.compare import compare
from alignvec.vectors.strict import Interval, Strict
from alignvec.vectors.vector import AlignmentVector

Array = npt.NDArray[np.float64]
Origin = Literal["native", "foreign"]
"""Whether a vector was trained on the stage that it is turned on, or on another."""
Place = tuple[Origin, float]
"""One of the two vectors at a coefficient λ; the stage itself is the native one at 0."""
ORIGINS: tuple[Origin, Origin] = ("native", "foreign")
STAGE: Place = ("native", 0.0)


class Kept(Strict):
    """How much of the native effect the foreign vector has.

    Attributes:
        measure: `margin` (nats per token), or `level`: the change of a level's rate among generated replies.
        coefficient: λ; None for the sum of the margins at all of them, each counted in the native one's direction.
        level: of a level's rate, the one that is wanted at this end of the knob.
        native: the native vector's effect.
        foreign: the foreign one's.
        kept: foreign over native. None where the native effect cannot be told from none, as a share of it says nothing.
    """

    measure: Literal["margin", "level"]
    coefficient: float | None
    level: str | None
    native: Interval
    foreign: Interval
    kept: Interval | None


def margins_kept(margins: Mapping[Place, Array], rows: Sequence[PreferenceRow]) -> list[Kept]:
    """Margins kept at each coefficient but 0, and over all of them.

    Args:
        margins: of each vector at each coefficient, a value a row.
        rows: whose personas are drawn.
    """
    weights, personas = _draws(rows)
    means = {place: weights @ values / weights.sum(axis=1) for place, values in margins.items() if place != STAGE}
    found, total = [], {origin: np.zeros(len(weights)) for origin in ORIGINS}
    for value in sorted({value for _, value in means}):
        both = {origin: means[origin, value] for origin in ORIGINS}
        found.append(_kept("margin", value, None, both, personas))
        direction = np.sign(both["native"][0])
        total = {origin: total[origin] + direction * both[origin] for origin in ORIGINS}
    return [*found, _kept("margin", None, None, total, personas)] if found else []


def levels_kept(
    verdicts: Mapping[Place, Sequence[str]], ends: Mapping[float, str], rows: Sequence[PreferenceRow]
) -> list[Kept]:
    """Changes of the wanted level's rate against the stage kept at each end of the knob.

    Args:
        verdicts: of each vector at each coefficient, the level of the reply to every row; and of the stage.
        ends: coefficient to the level wanted there.
        rows: whose personas are drawn.
    """
    weights, personas = _draws(rows)
    found = []
    for value, level in sorted(ends.items()):
        at_stage = _has(verdicts[STAGE], level)
        changes = {origin: _has(verdicts[origin, value], level) - at_stage for origin in ORIGINS}
        both = {origin: weights @ change / weights.sum(axis=1) for origin, change in changes.items()}
        found.append(_kept("level", value, level, both, personas))
    return found


def cosines(native: AlignmentVector, foreign: AlignmentVector) -> dict[str, float | None]:
    """Cosine of the two vectors' weight changes at λ = 1 and at λ = -1; None where one is zero."""
    table = compare([native, foreign], allow_other_base=True).total.cosines
    parts = (*native.parts, *foreign.parts)
    found: dict[str, float | None] = {}
    for value in (1.0, -1.0):
        i, j = (k for k, part in enumerate(parts) if part.gate(value))
        cosine = table[i][j]
        sign = parts[i].gate(value) * parts[j].gate(value)
        found[f"{value:g}"] = None if cosine is None else sign * cosine
    return found


def _draws(rows: Sequence[PreferenceRow]) -> tuple[Array, int]:
    """Weights of `persona_weights`, and the number of personas in the domain that has fewest."""
    personas, domains = [row.persona for row in rows], [row.domain for row in rows]
    fewest = min(len({p for p, d in zip(personas, domains, strict=True) if d == one}) for one in set(domains))
    return persona_weights(personas, domains), fewest


def _kept(
    measure: Literal["margin", "level"],
    coefficient: float | None,
    level: str | None,
    draws: Mapping[Origin, Array],
    personas: int,
) -> Kept:
    native, foreign = (spread(draws[origin], personas) for origin in ORIGINS)
    low, high = native.drawn
    share = None
    if not low <= 0 <= high:
        smallest = np.finfo(np.float64).eps * draws["native"][0]  # of the few draws without a native effect
        share = spread(draws["foreign"] / np.where(draws["native"] == 0, smallest, draws["native"]), personas)
    return Kept(measure=measure, coefficient=coefficient, level=level, native=native, foreign=foreign, kept=share)


def _has(verdicts: Sequence[str], level: str) -> Array:
    return np.array([verdict == level for verdict in verdicts], dtype=np.float64)
