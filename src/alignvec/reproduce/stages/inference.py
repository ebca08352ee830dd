"""What asking for a level costs at inference: a knob, an instruction, examples."""

from pathlib import Path

from alignvec.data.domain import domain_path, load_domain
from alignvec.data.load import levels_of, load_rows, shipped_file
from alignvec.reproduce.cost.inference_cost import Grid, inference_cost
from alignvec.reproduce.cost.inference_plot import plot_inference
from alignvec.reproduce.cost.inference_record import InferenceCost
from alignvec.reproduce.cost.inference_report import tables
from alignvec.reproduce.cost.ways import SHOTS
from alignvec.reproduce.material import domain_vectors, knobbed
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage


def measure(place: Place) -> InferenceCost:
    """Ask for the highest level of the first domain in every way, in turn."""
    domain, file = place.scale.moved, shipped_file(place.scale.moved)
    queries = load_rows(file, split="validation", limit=place.scale.validation)
    level = levels_of(queries)[-1]
    model = knobbed(place, domain_vectors(place))
    others = [name for name in place.scale.domains if name != domain]
    return inference_cost(
        model,
        {"knob": {domain: 1.0}, "knobs_3": dict.fromkeys((domain, *others), 1.0)},
        queries,
        load_rows(file, split="train", limit=SHOTS),
        instruction=load_domain(domain).levels[level].instruction,
        level=level,
        grid=Grid(
            system_tokens=place.scale.cost,
            batches=place.scale.batches,
            rounds=place.scale.rounds,
            new_tokens=min(32, place.scale.max_new_tokens),
        ),
        seed=place.scale.seed,
        journal=place.data("inference/journal.jsonl"),
        advance=place.advance,
    )


def show(found: InferenceCost, figures: Path) -> Section:
    """Curves over the length of the system prompt, and where the paper's half holds."""
    plot_inference(found, figures / "inference.png")
    return Section(
        text=(
            "Tokens and seconds of a request whose level is asked for by one knob, by three, by a one-sentence "
            "instruction, or by three examples, after a system prompt that all pay for; with and without the constant "
            "part of the prompt in the cache. A cached prefix belongs to one setting of the knobs. Without a system "
            "prompt (0) the chat template brings its own, which the instruction replaces. No router is in front of "
            "the knobs; it reads each query once more.",
            "Brackets here are the least and the most of the rounds.",
        ),
        tables=tuple(tables(found)),
        figures=(Figure(path="inference.png", caption="Cost of asking for a level, over the system prompt."),),
    )


STAGE = Stage(
    name="inference",
    title="Cost at inference, against prompting",
    record=InferenceCost,
    measure=measure,
    show=show,
    keys=("moved", "cost", "batches", "rounds", "validation", "max_new_tokens"),
    needs=("vectors",),
    reads=lambda place: [domain_path(place.scale.moved)],
)
