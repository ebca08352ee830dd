"""Transfer: what a vector does at a fine-tuning stage it was not trained on (the paper's Figure 4)."""

from collections.abc import Callable, Sequence
from pathlib import Path

from alignvec.data.gates.loop import is_degenerate
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import VectorError
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import score_levels
from alignvec.evaluate.scope import scope_of
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.evaluate.transfer_kept import ORIGINS, Place, cosines, levels_kept, margins_kept
from alignvec.evaluate.transfer_record import Effect, Transfer
from alignvec.evaluate.transfer_report import write_transfer
from alignvec.models import BaseModel
from alignvec.provenance import provenance
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import Card
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector

COEFFICIENTS = (-1.0, -0.5, 0.5, 1.0)


def knobbed_pair(stage: BaseModel, native: AlignmentVector, foreign: AlignmentVector) -> KnobbedModel:
    """The stage with both vectors, whose knobs are called `native` and `foreign`.

    Raises:
        VectorError: if the native vector was not trained on this stage, the foreign one was made with another chat
            template or vocabulary, or either does not fit the model's tensors.
    """
    found, template = fingerprint(stage.folder), template_hash(stage.tokenizer)
    native.require_base(found)
    native.require_template(template)
    if foreign.card.base.template != template:
        raise VectorError(
            f"the foreign vector {foreign.name!r} was made with another chat template or vocabulary than the stage "
            f"{stage.name!r} has; vectors move between stages of one model only"
        )
    renamed = [
        AlignmentVector(vector.card.model_copy(update={"name": name}), vector.positive, vector.negative)
        for name, vector in zip(ORIGINS, (native, foreign), strict=True)
    ]
    return KnobbedModel(stage, renamed, allow_other_base=True)


def wanted_levels(card: Card, levels: Sequence[str]) -> dict[float, str]:
    """The level wanted at each end of a knob: of its card, else the lowest at λ = -1 and the highest at 1."""
    ends = {value: level for level, value in card.settings.items() if value and level in levels}
    return ends or {-1.0: levels[0], 1.0: levels[-1]}


def measure_transfer(
    model: KnobbedModel,
    rows: Sequence[PreferenceRow],
    *,
    name: str,
    data: str,
    coefficients: Sequence[float] = COEFFICIENTS,
    judge: LevelJudge | None = None,
    generate: int | None = None,
    sampling: Sampling | None = None,
    out: Path | None = None,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> Transfer:
    """Turn each vector alone over the coefficients and compare the two, query by query.

    Args:
        model: of `knobbed_pair`.
        rows: held-out rows.
        name: of the knob, for the record.
        data: name of the data, for the record.
        coefficients: values of λ; 0 is measured in any case. A level counts at its end if that is among them.
        judge: gives generated replies their level; without one nothing is generated.
        generate: number of rows to generate replies for, the first ones; default all.
        sampling: how replies are decoded.
        out: folder for the journal that a killed run goes on from, and for what `write_transfer` writes.
        advance: called with a task's name, what was done and the total.

    Raises:
        DataError: if a row does not fit the model's context, or `out` holds another measurement.
        StorageError: if `out` cannot be written.
    """
    sampling, levels = sampling or Sampling(), levels_of(rows)
    values = [value for value in coefficients if value]
    places: list[Place] = [("native", 0.0), *((origin, value) for origin in ORIGINS for value in values)]
    settings: list[Knobs] = [{origin: value} if value else {} for origin, value in places]
    journal = Journal(out / "journal.jsonl" if out else None, scope_of(model, ORIGINS, sampling, data, rows))
    total = len(rows) * (len(settings) + 1)
    scores = score_levels(
        model, rows, levels, settings, journal=journal, advance=lambda n: advance("scoring", n, total)
    )
    replied = list(rows[:generate]) if judge else []
    replies: list[list[str]] = []
    said: list[list[str]] = []
    if judge and replied:
        count = len(replied) * len(settings)
        replies = generate_replies(
            model, replied, settings, sampling,
            journal=journal, batch_size=48, advance=lambda n: advance("generating", n, count),
        )  # fmt: skip
        said = [judge.verdicts(column) for column in replies]
    personas = [row.persona for row in replied]
    effects = tuple(
        Effect(
            origin=origin, coefficient=value, margin=scores.margin(i),
            level_rate={v: bootstrap_rate([float(s == v) for s in said[i]], personas) for v in levels if replied},
            degenerate=bootstrap_rate([float(is_degenerate(r)) for r in replies[i]], personas) if replied else None,
        )
        for i, (origin, value) in enumerate(places)
    )  # fmt: skip
    native, foreign = (model.vectors[origin] for origin in ORIGINS)
    kept = margins_kept(dict(zip(places, scores.margins(), strict=True)), rows)
    if replied:
        ends = {value: level for value, level in wanted_levels(native.card, levels).items() if value in values}
        kept += levels_kept(dict(zip(places, said, strict=True)), ends, replied)
    result = Transfer(
        stage=model.base.name,
        fingerprint=fingerprint(model.base.folder),
        vector=name,
        foreign_base=foreign.card.base,
        files={"native": native.card.files, "foreign": foreign.card.files},
        data=data,
        levels=levels,
        queries=len(rows),
        generated=len(replied),
        sampling=sampling,
        effects=effects,
        kept=tuple(kept),
        cosines=cosines(native, foreign),
        judge=judge.report if judge and replied else None,
        provenance=provenance(),
    )
    if out:
        write_transfer(result, out)
    return result
