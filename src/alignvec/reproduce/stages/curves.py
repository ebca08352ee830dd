"""The chosen form over λ on held-out queries: rates, margins and examples of single domains (Figure 2, Table 1)."""

from functools import partial
from pathlib import Path

from alignvec.evaluate.sweep import sweep
from alignvec.evaluate.sweep_plot import plot_sweeps
from alignvec.evaluate.sweep_record import SweepResult
from alignvec.evaluate.sweep_report import tables
from alignvec.progress import Advance
from alignvec.reproduce.material import domain_vectors, held_out, knobbed, level_judge
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.reproduce.stages.forms import widened
from alignvec.vectors.algebra import in_form
from alignvec.vectors.strict import Strict


class Curves(Strict):
    """What the stage has found: one sweep a domain; their replies are in `curves/DOMAIN/replies.jsonl`."""

    form: str
    sweeps: tuple[SweepResult, ...]


def measure(place: Place) -> Curves:
    """Sweep every domain's knob over its own test queries."""
    form = place.found("forms").chosen
    vectors = [in_form(vector, form) for vector in domain_vectors(place)]
    model, judge = knobbed(place, vectors), level_judge(place)
    found = []
    for domain in place.scale.domains:
        rows = [row for row in held_out(place, "test") if row.domain == domain]
        result = sweep(
            model,
            domain,
            rows,
            data=f"{domain}.jsonl test",
            coefficients=widened(form, place.scale.coefficients),
            judge=judge,
            generate=place.scale.spoken,
            sampling=place.scale.sampling(),
            out=place.data("curves") / domain,
            batch_size=place.scale.batch_size,
            advance=partial(_named, place.advance, domain),
        )
        found.append(result.model_copy(update={"replies": ()}))
    return Curves(form=form, sweeps=tuple(found))


def _named(advance: Advance, domain: str, task: str, done: float, total: float) -> None:
    advance(f"{domain}: {task}", done, total)


def show(found: Curves, figures: Path) -> Section:
    """Curves and tables of every domain."""
    plot_sweeps(found.sweeps, figures / "curves.png")
    first = found.sweeps[0]
    return Section(
        text=(
            f"The {found.form} vectors on test queries, {first.queries} a domain, {first.generated} of them replied to "
            "at every λ; no persona of them was trained on, and nothing was chosen on them.",
        ),
        tables=tuple(table for one in found.sweeps for table in tables(one)),
        figures=(Figure(path="curves.png", caption="Each knob over its own domain's test queries."),),
    )


STAGE = Stage(
    name="curves",
    title="Single domains over λ",
    record=Curves,
    measure=measure,
    show=show,
    keys=("coefficients", "test", "spoken", "max_new_tokens"),
    needs=("vectors", "forms"),
)
