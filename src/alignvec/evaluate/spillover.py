"""Spillover: what each knob changes in every domain, its own and those it was not made for (over-generalization)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import LevelScores, score_levels
from alignvec.evaluate.spillover_record import Cell, Shift, Spillover, Summary
from alignvec.evaluate.statistics import highest_unseen, persona_weights, spread
from alignvec.steer.knobs import Knobs, Turn, as_asked
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.steer.scale import Scale
from alignvec.vectors.calibration import Spillover as CardSpillover
from alignvec.vectors.calibration import SpilloverPoint
from alignvec.vectors.strict import Interval

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Turned:
    """One knob at one coefficient."""

    knob: str
    coefficient: float


def marked(scale: Scale) -> list[float]:
    """The coefficients at which a knob is looked at by default: those of its levels but 0, and half of each."""
    ends = [value for value in scale.levels.values() if value] or [-1.0, 1.0]
    return sorted({share * end for end in ends for share in (0.5, 1.0)})


def measure_spillover(
    model: KnobbedModel,
    rows: Sequence[PreferenceRow],
    turned: Sequence[Turned],
    *,
    turn: Turn = as_asked,
    judge: LevelJudge | None = None,
    sampling: Sampling | None = None,
    journal: Journal,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[dict[str, dict[str, float]], tuple[Cell, ...], Summary]:
    """Turn each knob alone and compare with the base, query by query.

    Args:
        model: with the vectors.
        rows: queries of every domain; one that is no knob's is a column outside all of them.
        turned: knobs and coefficients.
        turn: what a setting becomes for one row, as a router turns it.
        judge: gives generated replies their level; without one nothing is generated.
        sampling: how replies are decoded.
        journal: what it has is not measured again.
        advance: called with a task's name, what was done and the total.

    Returns:
        The base's preference rates, the cells, and their means.
    """
    levels = levels_of(rows)
    settings: list[Knobs] = [{one.knob: one.coefficient} for one in turned]
    total = len(rows) * (len(settings) + 1)
    scores = score_levels(
        model, rows, levels, settings, journal=journal, turn=turn, advance=lambda n: advance("scoring", n, total)
    )
    said = None
    if judge:
        count = len(rows) * (len(settings) + 1)
        replies = generate_replies(
            model, rows, [{}, *settings], sampling or Sampling(),
            journal=journal, turn=turn, batch_size=48, advance=lambda n: advance("generating", n, count),
        )  # fmt: skip
        verdicts = [judge.verdicts(column) for column in replies]
        said = np.stack([one_hot([levels.index(level) for level in column], len(levels)) for column in verdicts])
    return _compare(model, rows, turned, scores, said)


def _compare(
    model: KnobbedModel,
    rows: Sequence[PreferenceRow],
    turned: Sequence[Turned],
    scores: LevelScores,
    said: Array | None,
) -> tuple[dict[str, dict[str, float]], tuple[Cell, ...], Summary]:
    levels, domains = scores.levels, tuple(dict.fromkeys(row.domain for row in rows))
    weights = persona_weights([row.persona for row in rows], [row.domain for row in rows])
    base = one_hot((scores.base / scores.counts).argmax(axis=1), len(levels))
    likeliest = (scores.sums / scores.counts).argmax(axis=2)
    places = {domain: np.array([row.domain == domain for row in rows]) for domain in domains}
    middle = len(levels) // 2
    loss = -(scores.sums - scores.base)[:, :, middle]
    personas = {d: len({row.persona for row in rows if row.domain == d}) for d in domains}
    cells: list[Cell] = []
    sizes: dict[tuple[bool, str], list[Array]] = {
        (own, kind): [] for own in (True, False) for kind in ("preference", "level")
    }
    for i, one in enumerate(turned):
        preferred = one_hot(likeliest[i], len(levels)) - base
        spoken = said[i + 1] - said[0] if said is not None else None
        for domain, place in places.items():
            own = domain == (model.vectors[one.knob].card.domain or one.knob)
            inside = weights * place
            shift, size = shift_of(preferred, inside, levels, personas[domain])
            sizes[own, "preference"].append(size)
            level = None
            if spoken is not None:
                level, size = shift_of(spoken, inside, levels, personas[domain])
                sizes[own, "level"].append(size)
            cells.append(
                Cell(
                    knob=one.knob, coefficient=one.coefficient, domain=domain, own=own, queries=int(place.sum()),
                    preference=shift, level=level,
                    perplexity=spread(
                        np.exp((inside @ loss[i]) / (inside @ scores.counts[:, middle])), personas[domain]
                    ),
                )
            )  # fmt: skip
    fewest = {
        own: min((personas[cell.domain] for cell in cells if cell.own == own), default=0) for own in (True, False)
    }
    means = {key: spread(np.mean(values, axis=0), fewest[key[0]]) if values else None for key, values in sizes.items()}
    nothing = Interval(value=0.0, low=0.0, high=0.0)
    summary = Summary(
        spillover=means[False, "preference"] or nothing,
        on_target=means[True, "preference"] or nothing,
        spillover_level=means[False, "level"],
        on_target_level=means[True, "level"],
    )
    rates = {d: dict(zip(levels, base[place].mean(axis=0).tolist(), strict=True)) for d, place in places.items()}
    return rates, tuple(cells), summary


def shift_of(changes: Array, weights: Array, levels: Sequence[str], personas: int) -> tuple[Shift, Array]:
    """Changes of rows, [rows, levels], weighted [draws, rows], as rates and as the size of every draw.

    Args:
        personas: number of personas among the rows with a weight.
    """
    draws = weights @ changes / weights.sum(axis=1, keepdims=True)
    size = np.abs(draws).mean(axis=1)
    told = spread_size(size, levels, personas, personas)
    found = Shift(change={level: spread(draws[:, i], personas) for i, level in enumerate(levels)}, size=told)
    return found, size


def spread_size(sizes: Array, levels: Sequence[str], groups: int, fewest: int) -> Interval:
    """`spread` of a size, or a mean of sizes; where none is seen, as many changed personas as may have been missed.

    Args:
        sizes: the size, and then its resamplings.
        levels: whose rates change.
        groups: number of personas that were drawn from.
        fewest: of several strata, the number of personas in the one that has fewest.
    """
    found = spread(sizes, fewest)
    if found.low is None or sizes.any():
        return found
    return Interval(value=0.0, low=0.0, high=2 / len(levels) * highest_unseen(groups))


def one_hot(indices: Any, count: int) -> Array:
    """Ones at the indices, [*indices, count]."""
    found: Array = np.eye(count)[np.asarray(indices)]
    return found


def of_card(result: Spillover, knob: str) -> CardSpillover:
    """The part of it that a knob's card keeps."""
    cells = sorted((cell for cell in result.cells if cell.knob == knob), key=lambda cell: cell.coefficient)
    kept = [
        SpilloverPoint(
            coefficient=c.coefficient, domain=c.domain, preference=c.preference.size, perplexity=c.perplexity
        )
        for c in cells
    ]
    return CardSpillover(data=result.data, points=kept)
