"""What a smaller form of a vector costs: bytes, error in the weights, and change of what the model prefers."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import StorageError
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import LevelScores, Scores, score_levels
from alignvec.evaluate.statistics import bootstrap_mean, bootstrap_rate
from alignvec.files import write_figure, write_text
from alignvec.models import BaseModel as Base
from alignvec.provenance import Provenance, provenance
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.algebra import renamed
from alignvec.vectors.compress import Form, compress, dense_bytes, require_whole, stored_bytes
from alignvec.vectors.store import load_vector, require_free, save_vector
from alignvec.vectors.strict import Interval
from alignvec.vectors.vector import AlignmentVector


class Behaviour(BaseModel):
    """What a form does at the vector's ends, beside the vector as it was.

    Attributes:
        coefficient: λ.
        level: the level that is wanted there.
        rate: share of held-out queries whose reply of that level is the likeliest, with the vector as it was.
        change: change of that share with the form, in points of 100, over the same queries. Where no query changes,
            its interval is the exact one of changes to either side.
        change_implicit: the same by implicit reward instead of likelihood a token.
        margin: mean implicit reward of the highest level over the lowest, nats a token, with the vector as it was.
        margin_kept: the form's margin as a share of that; None where that is zero.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    coefficient: float
    level: str
    rate: Interval
    change: Interval
    change_implicit: Interval
    margin: float
    margin_kept: float | None


class FormResult(BaseModel):
    """One form: its size and its errors.

    Attributes:
        form: such as `rank=16`.
        bytes: of its tensors.
        share: of the bytes that every changed tensor takes in 16 bits an entry.
        weight_error: ‖Δ' − Δ‖/‖Δ‖ over all tensors.
        behaviour: at each end of the vector; empty if it was not asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: str
    bytes: int
    share: float
    weight_error: float
    behaviour: list[Behaviour]


class CompressionReport(BaseModel):
    """Forms of one vector.

    Attributes:
        data: what behaviour was measured on; None if it was not.
        queries: how many queries that were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vector: str
    dense_bytes: int
    data: str | None
    queries: int
    seed: int
    forms: list[FormResult]
    provenance: Provenance


def form_result(
    original: AlignmentVector, form: str, compressed: AlignmentVector, behaviour: list[Behaviour]
) -> FormResult:
    """Size and errors of a compressed vector."""
    return FormResult(
        form=form,
        bytes=stored_bytes(compressed),
        share=stored_bytes(compressed) / dense_bytes(original),
        weight_error=compressed.card.error["compression"],
        behaviour=behaviour,
    )


def ends(vector: AlignmentVector, levels: Sequence[str]) -> dict[float, str]:
    """λ and wanted level at the ends of a vector: 1 for the highest; -1 for the lowest, if it is hinged."""
    return {1.0: levels[-1]} | ({-1.0: levels[0]} if vector.negative is not None else {})


def score_ends(
    base: Base,
    vector: AlignmentVector,
    rows: Sequence[PreferenceRow],
    levels: Sequence[str],
    *,
    name: str,
    journal: Journal,
    advance: Callable[[int], None] = lambda _: None,
) -> LevelScores:
    """Likelihoods of the reference replies at the ends of a vector.

    Args:
        name: what the journal knows this form by; the base's own scores are shared by all forms.
        advance: told the scored rows, as they come.
    """
    knobbed = KnobbedModel(base, [renamed(vector, name)])
    settings = [{name: value} for value in ends(vector, levels)]
    return score_levels(knobbed, rows, levels, settings, journal=journal, advance=advance)


def behaviours(
    vector: AlignmentVector, before: LevelScores, after: LevelScores, levels: Sequence[str]
) -> list[Behaviour]:
    """Changes between a vector's scores and a form's, query by query."""
    found = []
    for setting, (coefficient, level) in enumerate(ends(vector, levels).items()):
        index = list(levels).index(level)
        shifts = []
        for was, now in (
            (before.sums / before.counts, after.sums / after.counts),
            (before.implicit(), after.implicit()),
        ):
            hits = [(scores[setting].argmax(axis=1) == index).astype(float) for scores in (was, now)]
            shifts.append(_points(hits[1] - hits[0], before.personas))
        margin = float(before.margins()[setting].mean())
        found.append(
            Behaviour(
                coefficient=coefficient,
                level=level,
                rate=before.preference_rate(setting, "per_token")[level],
                change=shifts[0],
                change_implicit=shifts[1],
                margin=margin,
                margin_kept=float(after.margins()[setting].mean()) / margin if margin else None,
            )
        )
    return found


def _points(shifts: Scores, personas: Sequence[str]) -> Interval:
    """Mean of changes of -1, 0 or 1, in points of 100."""
    if shifts.any():
        return bootstrap_mean((100 * shifts).tolist(), personas)
    unseen = bootstrap_rate(shifts.tolist(), personas).high
    widest = None if unseen is None else 100 * unseen
    return Interval(value=0.0, low=None if widest is None else -widest, high=widest)


def compress_forms(
    folder: Path,
    forms: Sequence[Form],
    out: Path,
    *,
    base: Base | None = None,
    rows: Sequence[PreferenceRow] = (),
    data: str | None = None,
    svd: Literal["randomised", "exact"] = "randomised",
    seed: int = 0,
    advance: Callable[[str, int, int], None] = lambda _task, _done, _total: None,
) -> CompressionReport:
    """Write a vector in several forms to `out`, with `compression.json` and `compression.png`.

    Killed at any point, the same call goes on: what was scored is kept in `out/journal.jsonl`.

    Args:
        folder: the vector.
        base: its base model, to measure behaviour with; None measures weights alone.
        rows: held-out rows to measure on.
        data: what to call them.
        advance: told a task, the steps done and all.

    Raises:
        AlignvecError: if the vector is damaged, does not fit the base, or `out` cannot be written.
    """
    original = load_vector(folder, lazy=True)
    require_whole(original)
    if (inside := out.resolve()) == folder.resolve() or folder.resolve() in inside.parents:
        raise StorageError(f"cannot write {out}: it is inside the vector {folder} itself; choose another --out")
    for form in forms:
        require_free(out / form.slug)
    levels = levels_of(rows) if rows else ()
    content = hashlib.sha256("\n".join(row.model_dump_json() for row in rows).encode()).hexdigest()[:16]
    scope = {"files": original.card.files, "svd": svd, "seed": seed, "rows": content, "data": data}
    journal = Journal(out / "journal.jsonl" if rows else None, scope)

    def scores(vector: AlignmentVector, name: str) -> LevelScores | None:
        count = len(rows) * (1 + len(ends(vector, levels))) if rows else 0
        if base is None:
            return None
        tell = partial(_tell, advance, f"score {name}", count)
        return score_ends(base, vector, rows, levels, name=name, journal=journal, advance=tell)

    before = scores(original, "itself")
    results = []
    for form in forms:
        tensors = sum(len(part.deltas) for part in original.parts)
        small = compress(original, form, svd=svd, seed=seed, advance=partial(_tell, advance, str(form), tensors))
        if len(forms) > 1:  # so that they can be loaded side by side
            small = renamed(small, f"{original.name}-{form.slug}")
        save_vector(small, out / form.slug)
        after = scores(small, form.slug)
        changes = behaviours(original, before, after, levels) if before and after else []
        results.append(form_result(original, str(form), small, changes))
    report = CompressionReport(
        vector=original.name,
        dense_bytes=dense_bytes(original),
        data=data,
        queries=len(rows),
        seed=seed,
        forms=results,
        provenance=provenance(),
    )
    write_text(out / "compression.json", report.model_dump_json(indent=1) + "\n")
    plot_forms(report, out / "compression.png")
    return report


def _tell(advance: Callable[[str, int, int], None], task: str, total: int, done: int) -> None:
    advance(task, done, total)


def plot_forms(report: CompressionReport, path: Path) -> None:
    """Draw size against error in the weights, and against margin kept and change of rate, into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    measured = next((form.behaviour for form in report.forms if form.behaviour), [])
    figure = Figure(figsize=(14 if measured else 6, 4.6), layout="constrained")
    panels = figure.subplots(1, 3 if measured else 1, squeeze=False)[0]
    palette = colormaps["tab10" if len(report.forms) <= 10 else "tab20"]
    place = 0.0
    for number, form in enumerate(sorted(report.forms, key=lambda form: form.share)):
        colour = palette(number % palette.N)
        panels[0].plot(form.share, form.weight_error, "D", color=colour, label=form.form)
        place = max(form.share, 1.12 * place)  # intervals of forms of one size stand side by side
        for x, mark, end in zip((place * 0.97, place * 1.03), _MARKS, form.behaviour, strict=False):
            if end.margin_kept is not None:
                panels[1].plot(x, end.margin_kept, mark, color=colour)
            value = end.change.value
            low, high = end.change.drawn
            spread = [[value - low], [high - value]]
            panels[2].errorbar(x, value, yerr=spread, fmt=mark, color=colour, elinewidth=1)
    panels[0].set(title=f"{report.vector}: error in the weights", ylabel="‖Δ' − Δ‖ / ‖Δ‖")
    panels[0].set_yscale("symlog", linthresh=1e-3)
    panels[0].set_ylim(bottom=0)
    if measured:
        panels[1].axhline(1, color="0.7", linewidth=0.8, zorder=0)
        panels[1].set(title="margin between the extremes kept", ylabel="share of the vector's own")
        panels[2].axhline(0, color="0.7", linewidth=0.8, zorder=0)
        panels[2].set(title=f"preference rate, {report.queries} queries", ylabel="change, points (95 % interval)")
        panels[1].legend(
            [Line2D([], [], color="0.3", marker=mark, linestyle="") for mark, _ in zip(_MARKS, measured, strict=False)],
            [f"λ = {end.coefficient:g} ({end.level})" for end in measured],
            fontsize=8,
        )
    for axis in panels:
        axis.set_xscale("log", base=2)
        axis.set_xlim(0.7 * min(f.share for f in report.forms), 1.4 * max(f.share for f in report.forms))
        axis.xaxis.set_major_formatter(lambda x, _: f"1/{1 / x:g}" if x < 1 else f"{x:g}")
        axis.axvline(1 / 16, color="0.85", linewidth=0.8, zorder=0)
        axis.set_xlabel("size, share of 16 bits an entry (line: 1/16)", fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=8 if measured else 4)
    write_figure(path, figure)


_MARKS = ("o", "s")
