"""One-sided, two-sided and hinged vectors of the same runs side by side (Figure 2), and which of them is the default.

All three are sums of the two trained sides: hinged λ is max(λ, 0) of the positive and max(−λ, 0) of the negative side,
one-sided λ is λ of the positive one, two-sided λ is λ/2 of the positive and −λ/2 of the negative one. As that is half
of each side, a two-sided vector is turned twice as far as the others.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignvec.data.gates.loop import is_degenerate
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import score_levels
from alignvec.evaluate.scope import scope_of
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.evaluate.table import Table
from alignvec.reproduce.material import domain_vectors, held_out, knobbed, level_judge, spoken
from alignvec.reproduce.methods.method import digest_of
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.reproduce.stages.forms_choice import Case, Heard, choose
from alignvec.reproduce.stages.forms_record import FormPoint, Forms
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.algebra import FORMS, renamed, sides
from alignvec.vectors.vector import AlignmentVector


def side_vectors(vectors: Sequence[AlignmentVector]) -> list[AlignmentVector]:
    """Both sides of hinged vectors as vectors of their own, `medical.positive` and `medical.negative`."""
    found = []
    for vector in vectors:
        positive, negative = sides(vector)
        found += [renamed(positive, f"{vector.name}.positive"), renamed(negative, f"{vector.name}.negative")]
    return found


def side_knobs(form: str, name: str, coefficient: float) -> Knobs:
    """A form's λ as a setting of the two sides."""
    positive, negative = {
        "one-sided": (coefficient, 0.0),
        "two-sided": (coefficient / 2, -coefficient / 2),
        "hinged": (max(coefficient, 0.0), max(-coefficient, 0.0)),
    }[form]
    return {f"{name}.{side}": value for side, value in (("positive", positive), ("negative", negative)) if value}


def widened(form: str, values: Sequence[float]) -> tuple[float, ...]:
    """λ at which a form turns as far as the others at these: twice as far for two-sided vectors."""
    return tuple(value * (2 if form == "two-sided" else 1) for value in values)


def forms_scope(
    model: KnobbedModel, vectors: Sequence[AlignmentVector], sampling: Sampling, rows: Sequence[PreferenceRow]
) -> dict[str, Any]:
    """What the journal depends on besides setting and query.

    Sides have no files of their own, so the hinged vectors stand for them: by their files, or unsaved by their tensors.
    """
    known = {vector.name: vector.card.files or {"tensors": digest_of(vector)} for vector in vectors}
    return {**scope_of(model, [], sampling, "validation", rows), "vectors": known}


def measure(place: Place) -> Forms:
    """Measure every form at every λ on the validation queries."""
    rows = held_out(place, "validation")
    levels, judge, sampling = levels_of(rows), level_judge(place), place.scale.sampling()
    vectors = domain_vectors(place)
    model = knobbed(place, side_vectors(vectors))
    journal = Journal(place.data("forms/journal.jsonl"), forms_scope(model, vectors, sampling, rows))
    points = []
    heard: dict[Case, Heard] = {}
    personas: dict[str, list[str]] = {}
    cases = [(form, value) for form in FORMS for value in widened(form, place.scale.coefficients)]
    total = len(rows) * (1 + len(cases))
    count = len(spoken(place, rows)) * len(cases)
    for domain in place.scale.domains:
        own = [row for row in rows if row.domain == domain]
        asked = spoken(place, own)
        personas[domain] = [row.persona for row in asked]
        settings = [side_knobs(form, domain, value) for form, value in cases]
        scores = score_levels(
            model, own, levels, settings, journal=journal,
            advance=lambda n: place.advance("scoring", n, total),
        )  # fmt: skip
        replies = generate_replies(
            model, asked, settings, sampling, journal=journal, batch_size=place.scale.batch_size,
            advance=lambda n: place.advance("generating", n, count),
        )  # fmt: skip
        for i, ((form, value), column) in enumerate(zip(cases, replies, strict=True)):
            said, broken = judge.verdicts(column), [is_degenerate(reply) for reply in column]
            heard[form, domain, value] = Heard(said, broken)
            points.append(
                FormPoint(
                    form=form,
                    domain=domain,
                    coefficient=value,
                    said={v: bootstrap_rate([float(one == v) for one in said], personas[domain]) for v in levels},
                    preferred=scores.preference_rate(i, "per_token"),
                    margin=scores.margin(i),
                    degenerate=bootstrap_rate([float(one) for one in broken], personas[domain]),
                )
            )
    choice = choose(heard, personas, levels, lambda form, value: sum(map(abs, side_knobs(form, "", value).values())))
    return Forms(
        data="validation",
        queries=len(rows),
        replied=sum(map(len, personas.values())),
        levels=levels,
        points=tuple(points),
        best=choice.best,
        reach=choice.reach,
        behind=choice.behind,
        turned=choice.turned,
        chosen=choice.chosen,
        judge=judge.report,
    )


def show(found: Forms, figures: Path) -> Section:
    """Two figures, the reach of each form, and the λ chosen for each level."""
    from alignvec.reproduce.stages.forms_plot import plot_forms

    plot_forms(found, figures / "forms.png", what="said")
    plot_forms(found, figures / "forms-preferred.png", what="preferred")
    domains = list(found.best[found.chosen])
    cells = tuple(
        (
            form, found.reach[form].told(), found.behind[form].told(), f"{found.turned[form]:.2f}",
            *(_settings(found.best[form][domain]) for domain in domains),
        )
        for form in found.best
    )  # fmt: skip
    return Section(
        text=(
            f"All forms come from the same two training runs a domain. {found.queries} validation queries are scored, "
            f"{found.replied} replied to at every λ. Reach is the mean, over domains and levels, of the share of "
            "replies that the judge gives the wanted level and that do not loop, at the λ where it is highest. "
            "λ of a two-sided vector, which is half the difference of the two sides, goes twice as far. Behind is the "
            "difference from the highest reach, query by query; turned is how far both sides are turned together, the "
            "mean of |λ| summed over the sides. Of the forms that are not behind for certain, the one that turns the "
            f"sides least is the default of the curves: {found.chosen}. The other stages turn hinged vectors.",
            "Intervals take the best λ as given. The judge takes fluent nonsense for the middle level: read replies.",
            found.judge.summary(),
        ),
        tables=(
            Table(
                title=f"reach, and best λ for {' / '.join(found.levels)}",
                columns=("form", "reach", "behind", "turned", *domains),
                rows=cells,
            ),
        ),
        figures=(
            Figure(path="forms.png", caption="Level of generated replies over λ, by form (Figure 2)."),
            Figure(path="forms-preferred.png", caption="Likeliest reference reply over λ, by form."),
        ),
    )


def _settings(levels: dict[str, float]) -> str:
    return " / ".join(f"{value:g}" for value in levels.values())


STAGE = Stage(
    name="forms",
    title="One-sided, two-sided and hinged vectors over λ",
    record=Forms,
    measure=measure,
    show=show,
    keys=("coefficients", "validation", "spoken", "max_new_tokens"),
    needs=("vectors",),
)
