"""A vector in words."""

from collections import Counter

from alignvec.vectors.card import METHODS, Card, Measurement
from alignvec.vectors.delta import Delta, LowRankDelta
from alignvec.vectors.packed import SignDelta, SparseDelta
from alignvec.vectors.strict import Interval
from alignvec.vectors.vector import AlignmentVector, Deltas


def describe(vector: AlignmentVector) -> str:
    """Several lines: what the vector is, its base, its tensors, how to set it, and what was measured."""
    card = vector.card
    lines = [
        f"{card.name}: an alignment vector" + (f" for the domain {card.domain}" if card.domain else ""),
        f"  method    {METHODS.get(card.method, card.method)}",
        f"  base      {card.base.name} (fingerprint {card.base.fingerprint[:12]})",
        f"  tensors   {_tensors(vector)}",
        f"  licence   {card.licence}",
    ]
    if card.levels:
        lines.append(f"  levels    {' < '.join(card.levels)}")
    if card.settings:
        settings = ", ".join(f"{level} at λ = {value:g}" for level, value in card.settings.items())
        lines.append(f"  settings  {settings}")
    if recipe := _recipe(card):
        lines.append(f"  recipe    {recipe}")
    lines += [f"  {line}" for line in error_lines(card)]
    if card.source and (warning := card.source.warning()):
        lines.append(f"  warning   {warning}")
    if card.measured:
        lines += _measured(card.measured)
    if card.calibration:
        low, high = card.calibration.usable
        ends = card.calibration.ends()
        lines.append(f"  usable    λ = {low:g} ({ends['lowest']}) to {high:g} ({ends['highest']})")
    lines += [f"  spillover {line}" for line in spillover_lines(card)]
    if card.notes:
        lines.append(f"  notes     {card.notes}")
    return "\n".join(lines)


def error_lines(card: Card) -> list[str]:
    """What each lossy form of a vector costs in its weights, a line each."""
    return [
        f"{name.replace('_', ' ')}: {_ERRORS.get(name, 'relative error')} {e:.1e}" for name, e in card.error.items()
    ]


def spillover_lines(card: Card) -> list[str]:
    """What the knob changes in other domains, a line a coefficient."""
    if card.spillover is None:
        return []
    points = [p for p in card.spillover.points if p.domain != (card.domain or card.name)]
    return [
        f"λ = {value:g}: preference rates move by "
        + ", ".join(f"{100 * p.preference.value:.0f} points in {p.domain}" for p in points if p.coefficient == value)
        for value in dict.fromkeys(p.coefficient for p in points)
    ]


_ERRORS = {
    "compression": "relative error over all tensors",
    "storage_rounding": "relative error of a tensor at most",
}


def _tensors(vector: AlignmentVector) -> str:
    def one(deltas: Deltas) -> str:
        ranks = sorted({d.rank for d in deltas.values() if isinstance(d, LowRankDelta)})
        counts = Counter(map(_form, deltas.values()))
        forms = (form for form in ("low-rank", "dense", "sparse", "sign") if counts[form])
        return ", ".join(
            f"{counts[form]} {form}" + (f" (rank {'-'.join(map(str, ranks))})" if form == "low-rank" else "")
            for form in forms
        )

    if vector.negative is None:
        return one(vector.positive)
    return f"{one(vector.positive)} for λ > 0; {one(vector.negative)} for λ < 0"


def _form(delta: Delta) -> str:
    if isinstance(delta, LowRankDelta):
        return "low-rank"
    return "sparse" if isinstance(delta, SparseDelta) else "sign" if isinstance(delta, SignDelta) else "dense"


def _recipe(card: Card) -> str:
    keys = (
        "aligned",
        "of",
        "order",
        "orders",
        "loss",
        "beta",
        "sft_weight",
        "rank",
        "learning_rate",
        "epochs",
        "dtype",
        "seed",
    )
    return ", ".join(f"{key} {card.recipe[key]}" for key in keys if card.recipe.get(key) is not None)


def _measured(measured: Measurement) -> list[str]:
    levels = list(next((p.level_rate for p in measured.curve if p.level_rate), {}))
    sampling = ", ".join(f"{key} {value}" for key, value in measured.generation.items())
    lines = [
        f"  measured on {measured.queries} queries ({measured.data}), 95 % intervals",
        f"  generated with {sampling}",
        f"  {measured.judge}",
        "      λ  margin, nats a token" + "".join(f"  {level + ' rate':>20}" for level in levels) + "  degenerate",
    ]
    for point in measured.curve:
        rates = "".join(f"  {_interval(point.level_rate.get(level)):>20}" for level in levels)
        broken = f"  {point.degenerate.value:10.2f}" if point.degenerate else ""
        lines.append(f"  {point.coefficient:5g}  {_interval(point.margin):>21}{rates}{broken}")
    return lines


def _interval(interval: Interval | None) -> str:
    return interval.told() if interval else "not measured"
