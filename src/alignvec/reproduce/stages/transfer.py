"""A domain's vector moved between fine-tuning stages, beside one that was trained there (Figure 4)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from alignvec.evaluate.transfer import knobbed_pair, measure_transfer
from alignvec.evaluate.transfer_plot import plot_transfers
from alignvec.evaluate.transfer_record import Transfer
from alignvec.evaluate.transfer_report import summary, tables
from alignvec.reproduce.material import (
    StageName,
    held_out,
    level_judge,
    load_stage,
    native_vector,
    recipe_folder,
    stage_name,
    stage_recipe,
    vector_folder,
)
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.store import load_vector
from alignvec.vectors.strict import Strict


class Moved(Strict):
    """What a stage has found.

    Attributes:
        origin: stage that the foreign vector was trained on, in words.
        target: stage that both vectors are turned on, in words.
    """

    origin: str
    target: str
    transfer: Transfer


WORDS = {"base": "the base", "safety": "the safety-tuned stage", "sft": "the supervised fine-tuned stage"}


def own_recipe(place: Place) -> Path:
    """Recipe of the moved domain's vector."""
    return place.scale.recipes / f"{place.scale.moved}.yaml"


def to_stage(place: Place, *, name: StageName) -> Moved:
    """The vector of the base on another stage."""
    domain = place.scale.moved
    native = load_vector(native_vector(place, name, domain))
    pair = knobbed_pair(load_stage(place, name), native, load_vector(vector_folder(place, domain)))
    return Moved(origin=WORDS["base"], target=WORDS[name], transfer=_measured(place, pair, f"transfer-to-{name}"))


def to_base(place: Place, *, name: StageName) -> Moved:
    """The vector of another stage on the base."""
    domain = place.scale.moved
    foreign = load_vector(native_vector(place, name, domain))
    pair = knobbed_pair(place.base, load_vector(vector_folder(place, domain)), foreign)
    found = _measured(place, pair, f"transfer-from-{name}")
    origin = found.foreign_base.model_copy(update={"name": stage_name(place, name)})
    return Moved(origin=WORDS[name], target=WORDS["base"], transfer=found.model_copy(update={"foreign_base": origin}))


def _measured(place: Place, pair: KnobbedModel, folder: str) -> Transfer:
    rows = [row for row in held_out(place, "test") if row.domain == place.scale.moved]
    return measure_transfer(
        pair,
        rows,
        name=place.scale.moved,
        data=f"{place.scale.moved}.jsonl test",
        judge=level_judge(place),
        generate=place.scale.spoken,
        sampling=place.scale.sampling(),
        out=place.data(folder),
        advance=place.advance,
    )


def show(found: Moved, figures: Path) -> Section:
    """Curves of both vectors, and the shares kept."""
    result = found.transfer
    name = f"transfer-{'-'.join(found.origin.split())}-{'-'.join(found.target.split())}.png"
    plot_transfers([result], figures / name, stages=[found.target])
    return Section(
        text=(
            f"The {result.vector} vector trained on {found.origin} (foreign) and the one trained on {found.target} "
            f"by the same recipe (native), both turned on {found.target}. {result.queries} test queries.",
            summary(result) + ".",
        ),
        tables=tuple(tables(result)),
        figures=(Figure(path=name, caption=f"From {found.origin} to {found.target}."),),
    )


TO_SAFETY = Stage(
    name="transfer-to-safety",
    title="A vector of the base on a safety-tuned stage",
    record=Moved,
    measure=partial(to_stage, name="safety"),
    show=show,
    keys=("moved", "training", "test", "spoken", "max_new_tokens"),
    needs=("vectors", "safety"),
    reads=lambda place: [own_recipe(place)],
    makes=lambda place: [recipe_folder(place, own_recipe(place), stage="safety")],
)
FROM_SAFETY = replace(
    TO_SAFETY,
    name="transfer-from-safety",
    title="A vector of the safety-tuned stage on the base",
    measure=partial(to_base, name="safety"),
    needs=("vectors", "safety", "transfer-to-safety"),  # which trains the vector that is moved
    makes=lambda _: (),
)
TO_SFT = replace(
    TO_SAFETY,
    name="transfer-to-sft",
    title="A vector of the base after supervised fine-tuning",
    measure=partial(to_stage, name="sft"),
    needs=("vectors",),
    reads=lambda place: [own_recipe(place), stage_recipe(place, "sft")],
    makes=lambda place: [
        recipe_folder(place, stage_recipe(place, "sft")),
        recipe_folder(place, own_recipe(place), stage="sft"),
    ],
)
