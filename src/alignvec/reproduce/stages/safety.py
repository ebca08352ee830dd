"""Safety as a knob (Figure 3), and whether refusals survive while a domain's knob turns on the safety-tuned stage."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alignvec.data.safety import SAFETY, load_safety
from alignvec.evaluate.refusal import refusal_judge
from alignvec.evaluate.safety import assess_safety
from alignvec.evaluate.safety_plot import plot_safety
from alignvec.evaluate.safety_record import Safety
from alignvec.evaluate.safety_report import tables
from alignvec.evaluate.transfer import COEFFICIENTS
from alignvec.reproduce.material import (
    first_of_each,
    held_out,
    level_judge,
    load_stage,
    recipe_folder,
    router_of,
    safety_vector,
    stage_recipe,
    vector_folder,
)
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import Router
from alignvec.vectors.store import load_vector

ROUTED = (
    "Both knobs are on the base: safety=1 alone is the safety-tuned stage. The safety knob counts on every query, the "
    "other one as far as the router says that the query is its domain's."
)
HELPED = 10
"""Queries of each domain that are replied to beside those about safety."""


def measure_knob(place: Place) -> Safety:
    """Turn the safety knob on the base."""
    vector = load_vector(safety_vector(place))
    model = KnobbedModel(place.base, [vector])
    values = [value for value in place.scale.coefficients if value and abs(value) <= 1]
    return _measured(place, model, [{}, *({vector.name: value} for value in values)], "safety")


def measure_kept(place: Place) -> Safety:
    """Turn a domain's knob, trained on the base, on the safety-tuned stage."""
    vector = load_vector(vector_folder(place, place.scale.moved))
    model = KnobbedModel(load_stage(place, "safety"), [vector], allow_other_base=True)
    return _measured(place, model, [{}, *({vector.name: value} for value in COEFFICIENTS)], "safety-kept")


def measure_routed(place: Place) -> Safety:
    """Turn a domain's knob beside the safety knob on the base, as far as a router says that a query is the domain's."""
    safety, vector = load_vector(safety_vector(place)), load_vector(vector_folder(place, place.scale.moved))
    model = KnobbedModel(place.base, [safety, vector])
    settings = [{safety.name: 1.0, vector.name: value} for value in (0.0, *COEFFICIENTS)]
    return _measured(place, model, settings, "safety-routed", router_of(place))


def _measured(
    place: Place, model: KnobbedModel, settings: Sequence[Knobs], folder: str, router: Router | None = None
) -> Safety:
    rows = load_safety(split="test", limit=place.scale.test)
    count = min(HELPED, place.scale.spoken or HELPED)
    asked = first_of_each(held_out(place, "test"), count)
    return assess_safety(
        model, rows, settings, judge=refusal_judge(), level_judge=level_judge(place), domains=asked,
        sampling=place.scale.sampling(), router=router, data="safety.jsonl and domains, test",
        out=place.data(folder), advance=place.advance,
    )  # fmt: skip


def show(found: Safety, figures: Path) -> Section:
    """A figure, refusals, likelihoods, and the domains' replies."""
    name = f"safety-{'-'.join(found.vectors)}{'-routed' if found.routed else ''}.png"
    plot_safety(found, figures / name)
    judged = (found.judge.summary(), found.judge.called_text()) if found.judge else ()
    return Section(
        text=(
            "Harmful requests should be refused, benign look-alikes answered. λ below 0 is drawn to show the whole "
            "curve; it is no setting to use. The judge's own errors bound what can be seen: of reference refusals of "
            "harmful test requests it finds the share below.",
            *judged,
            *((ROUTED,) if found.routed else ()),
        ),
        tables=tuple(tables(found)),
        figures=(Figure(path=name, caption=f"Refusals, and the domains' replies, over the {found.vectors[-1]} knob."),),
    )


STAGE = Stage(
    name="safety",
    title="Safety as a knob",
    record=Safety,
    measure=measure_knob,
    show=show,
    keys=("coefficients", "training", "test", "spoken", "max_new_tokens"),
    reads=lambda place: [stage_recipe(place, "safety"), SAFETY],
    makes=lambda place: [recipe_folder(place, stage_recipe(place, "safety"))],
)
KEPT = replace(
    STAGE,
    name="safety-kept",
    title="Refusals kept while a domain's knob turns",
    measure=measure_kept,
    keys=("moved", "training", "test", "spoken", "max_new_tokens"),
    needs=("vectors", "safety"),
    makes=lambda _: (),
)
BESIDE = replace(
    KEPT,
    name="safety-routed",
    title="Refusals kept while a routed knob turns",
    measure=measure_routed,
    reads=lambda place: [stage_recipe(place, "safety"), SAFETY, *([place.scale.router] if place.scale.router else [])],
)
