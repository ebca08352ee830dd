"""What the domains' knobs cost elsewhere: general text, questions and instructions over λ (capability)."""

from collections.abc import Sequence
from pathlib import Path

from alignvec.data.capability import CHOICES, INSTRUCTIONS, Instruction, Question, load_items
from alignvec.data.load import load_rows, shipped_file
from alignvec.evaluate.capability import Items, capability_scope, measure_capability
from alignvec.evaluate.capability_record import Cost
from alignvec.evaluate.general_text import replies_as_text
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.table import Table
from alignvec.reproduce.material import domain_vectors, knobbed
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.reproduce.stages.capability_plot import plot_costs
from alignvec.steer.knobs import Knobs
from alignvec.vectors.strict import Strict


class Capabilities(Strict):
    """What the stage has found.

    Attributes:
        data: the items.
        costs: knob to its costs, by λ.
    """

    data: str
    items: tuple[int, int, int]
    coefficients: tuple[float, ...]
    costs: dict[str, tuple[Cost, ...]]


def measure(place: Place) -> Capabilities:
    """Measure each knob at every λ."""
    vectors = domain_vectors(place)
    model, names = knobbed(place, vectors), [vector.name for vector in vectors]
    limit, sampling = place.scale.capability, place.scale.sampling()
    general = shipped_file("general")
    tokenizer, longest = model.base.tokenizer, model.base.context_length
    text = replies_as_text(tokenizer, load_rows(general, limit=limit), general.name, max_length=longest)
    questions = load_items(CHOICES, Question, split="test", limit=limit)
    instructions = load_items(INSTRUCTIONS, Instruction, split="test", limit=limit)
    items = Items(f"{text.name}, {CHOICES.name}, {INSTRUCTIONS.name} test", text, questions, instructions)
    journal = Journal(place.data("capability/journal.jsonl"), capability_scope(model, names, sampling, items))
    settings = [{name: value} for name in names for value in place.scale.coefficients]
    costs, _ = measure_capability(
        model, settings, items, sampling=sampling, journal=journal, advance=place.advance
    )  # fmt: skip
    return Capabilities(
        data=items.name,
        items=(len(text.ids), len(questions), len(instructions)),
        coefficients=place.scale.coefficients,
        costs=by_knob(settings, costs),
    )


def by_knob(settings: Sequence[Knobs], costs: Sequence[Cost]) -> dict[str, tuple[Cost, ...]]:
    """Each knob's costs in the order of its settings, of settings that turn one knob each."""
    names = dict.fromkeys(name for knobs in settings for name in knobs)
    pairs = list(zip(settings, costs, strict=True))
    return {name: tuple(cost for knobs, cost in pairs if name in knobs) for name in names}


def show(found: Capabilities, figures: Path) -> Section:
    """A figure and a table a knob."""
    plot_costs(found.costs, found.coefficients, figures / "capability.png")
    texts, questions, instructions = found.items
    return Section(
        text=(
            f"Perplexity of {texts} replies to general questions as a multiple of the base's; {questions} questions "
            f"with four choices (answers: the likeliest choice written out; chance .25); {instructions} instructions "
            "that a program can check, followed by the generated reply. All are the project's own, outside the "
            "knobs' domains.",
        ),
        tables=tuple(
            Table(
                title=f"{name} knob",
                columns=("λ", "perplexity, times", "answers", "followed"),
                rows=tuple(
                    (f"{value:g}", one.perplexity.change.told(), one.answers.value.told(), one.followed.value.told())
                    for value, one in zip(found.coefficients, costs, strict=True)
                ),
            )
            for name, costs in found.costs.items()
        ),
        figures=(Figure(path="capability.png", caption="What each knob costs elsewhere, over λ."),),
    )


STAGE = Stage(
    name="capability",
    title="What a knob costs elsewhere",
    record=Capabilities,
    measure=measure,
    show=show,
    keys=("coefficients", "capability", "max_new_tokens"),
    needs=("vectors",),
    reads=lambda _: [CHOICES, INSTRUCTIONS],
)
