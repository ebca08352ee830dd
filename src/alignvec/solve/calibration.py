"""Calibration of one knob: how far it can be used, rates that rise with λ, and which λ gives which level."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alignvec.solve.isotonic import rising_curve
from alignvec.solve.knob_meter import KnobMeter, Position
from alignvec.solve.knob_search import explore, usable_range
from alignvec.vectors.calibration import Calibration, CalibrationPoint, FittedPoint, Limits, Rising

Advance = Callable[[str, int, int], None]


def calibrate(
    meter: KnobMeter,
    limits: Limits,
    *,
    points: int = 9,
    farthest: float = 2.0,
    advance: Advance = lambda *_: None,
) -> Calibration:
    """Measure a knob, find its usable range, fit its curves and recommend a λ for each level.

    Args:
        meter: measures the knob.
        limits: what bounds the usable range.
        points: number of λ that are measured.
        farthest: largest |λ| that is tried.
        advance: called with a task's name, what was done and the total.

    Raises:
        DataError: if a row does not fit the model's context.
    """
    total = points * len(meter.replied)
    positions = explore(
        lambda wanted: meter.measure(wanted, lambda done: advance("generating", done, total)),
        limits,
        points=points,
        farthest=farthest,
    )
    low, high = usable_range(positions, limits)
    within = [p for p in positions if low <= p.coefficient <= high]
    curve = fit(within, [row.persona for row in meter.rows])
    return Calibration(
        data=meter.data,
        queries=len(meter.rows),
        text=meter.text,
        language=meter.language,
        generation={"queries": len(meter.replied), **meter.sampling.model_dump()},
        judge=meter.judge.report.summary(),
        levels=meter.levels,
        limits=limits,
        usable=(low, high),
        points=points_of(positions, limits),
        curve=curve,
        settings=recommended(within, curve, meter.named),
    )


def fit(positions: Sequence[Position], personas: Sequence[str]) -> list[FittedPoint]:
    """The rising curves through positions, with bands.

    Args:
        positions: of the usable range, by λ.
        personas: who asked each query; the replies are to the first ones.
    """
    columns = {
        "level_rate": np.stack([position.said for position in positions]),
        "preference_rate": np.stack([position.preferred for position in positions]),
    }
    top = len(positions[0].levels) - 1
    fitted: dict[str, list[Rising]] = {}
    for name, found in columns.items():
        who = personas[: found.shape[1]]
        highest, above = rising_curve(found == top, who), rising_curve(found > 0, who)
        fitted[name] = [Rising(highest=h, above_lowest=a) for h, a in zip(highest, above, strict=True)]
    return [
        FittedPoint(coefficient=position.coefficient, **{name: curve[i] for name, curve in fitted.items()})
        for i, position in enumerate(positions)
    ]


def recommended(positions: Sequence[Position], curve: Sequence[FittedPoint], named: Sequence[str]) -> dict[str, float]:
    """λ of each level of a knob: where its rate is highest among the positions, the nearest to 0 of several such.

    For the highest and the lowest level of the data the fitted rate counts, for others the counted one. The levels
    between the knob's highest and lowest one are looked for between those two.

    Args:
        positions: of the usable range, by λ.
        curve: the fit at the same λ.
        named: levels of the knob, lowest first; all or some of the positions' levels.
    """
    levels = positions[0].levels
    fitted = {
        levels[0]: {p.coefficient: 1 - p.level_rate.above_lowest.value for p in curve},
        levels[-1]: {p.coefficient: p.level_rate.highest.value for p in curve},
    }
    rates = {level: {p.coefficient: p.level_rate()[level] for p in positions} for level in named} | fitted
    bottom, top = _best(rates[named[0]]), _best(rates[named[-1]])
    low, high = min(bottom, top), max(bottom, top)
    between = {
        level: _best({value: rate for value, rate in rates[level].items() if low <= value <= high})
        for level in named[1:-1]
    }
    return {named[0]: bottom, **between, named[-1]: top}


def points_of(positions: Sequence[Position], limits: Limits) -> list[CalibrationPoint]:
    """What a card keeps of positions, one of which is at λ = 0."""
    base = next(p for p in positions if p.coefficient == 0)
    return [
        CalibrationPoint(
            coefficient=p.coefficient,
            level_rate=p.level_rate(),
            preference_rate=p.preference_rate(),
            perplexity=p.perplexity,
            degenerate=float(p.degenerate.mean()),
            off_language=float(p.off_language.mean()),
            broken=p.broken(base, limits),
        )
        for p in positions
    ]


def _best(rates: Mapping[float, float]) -> float:
    most = max(rates.values())
    return min((value for value, rate in rates.items() if np.isclose(rate, most)), key=abs)
