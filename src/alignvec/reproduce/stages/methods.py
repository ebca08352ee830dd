"""Every way to get a level of every domain, on the same queries: strengths chosen on validation, compared on test."""

import json
from pathlib import Path

from alignvec.data.capability import CHOICES, Question, load_items
from alignvec.data.domain import domain_path
from alignvec.data.load import levels_of, load_rows, shipped_file
from alignvec.errors import DataError
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.table import Table
from alignvec.reproduce.material import (
    domain_vectors,
    first_of_each,
    held_out,
    level_judge,
    made_folder,
    once,
    router_of,
    train_by_recipe,
    vector_folder,
)
from alignvec.reproduce.methods.asking import methods_scope
from alignvec.reproduce.methods.base import Base
from alignvec.reproduce.methods.choose_strengths import Choice, choose_strengths
from alignvec.reproduce.methods.compare_methods import SPEED_TOKENS, compare_methods
from alignvec.reproduce.methods.control_vectors import (
    ControlVectors,
    find_control_vectors,
    load_control_vectors,
    save_control_vectors,
)
from alignvec.reproduce.methods.joint import load_joint
from alignvec.reproduce.methods.knobs import knob_method
from alignvec.reproduce.methods.method import Method, goal_text
from alignvec.reproduce.methods.methods_plot import plot_methods
from alignvec.reproduce.methods.methods_result import Comparison, tables
from alignvec.reproduce.methods.mixing import mixing_method
from alignvec.reproduce.methods.prompting import FewShot, ZeroShot, shipped_instructions
from alignvec.reproduce.methods.soup import Soup
from alignvec.reproduce.methods.steering import Steering
from alignvec.reproduce.methods.strengths import Tunable
from alignvec.reproduce.place import Place, contents
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.reproduce.stages.forms import widened
from alignvec.vectors.algebra import FORMS
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.strict import Strict


class Choices(Strict):
    """What the stage of strengths has found: a choice a method."""

    data: str
    choices: tuple[Choice, ...]


def control_folder(place: Place) -> Path:
    """Folder of the control vectors, named after what they are found on."""
    scale, rows = place.scale, contents(shipped_file(domain) for domain in place.scale.domains)
    made_from = [scale.base, scale.seed, scale.dtype, scale.training.get("limit"), rows]
    return made_folder(place, "control-vectors", made_from)


def control_vectors(place: Place) -> ControlVectors:
    """Directions of every domain's levels, found on training rows."""
    folder, limit = control_folder(place), place.scale.training.get("limit")
    with once(folder):
        if not folder.is_dir():
            rows = [r for d in place.scale.domains for r in load_rows(shipped_file(d), split="train", limit=limit)]
            save_control_vectors(find_control_vectors(place.base, rows, advance=place.advance), folder)
    return load_control_vectors(folder, fingerprint(place.base.folder))


def train_seconds(place: Place, form: str = "hinged") -> float | None:
    """Seconds of the training that a form of all domains' vectors comes from; None if they are ready ones.

    Raises:
        DataError: if a training run's record cannot be read.
    """
    if place.scale.vectors:
        return None
    runs = ("positive",) if form == "one-sided" else ("positive", "negative")
    found = [
        _seconds_of(vector_folder(place, d).parent / run / "run.json") for d in place.scale.domains for run in runs
    ]
    known = [seconds for seconds in found if seconds is not None]
    return sum(known) if len(known) == len(found) else None


def _seconds_of(path: Path) -> float | None:
    """Seconds of a training run; None if there is no record, or a part of the run was not timed."""
    try:
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        return None if seconds is None else float(seconds)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = " ".join(str(error).split())
        raise DataError(f"cannot read seconds of training from {path} ({cause}); train the vector again") from None


def tunable(place: Place) -> list[tuple[Tunable, tuple[float, ...]]]:
    """Methods with strengths, and the amounts that each chooses from: as many for all, over ranges of like effect.

    A two-sided vector is half the difference of the two sides, so its λ goes twice as far as the others'; α of a
    control vector goes to three times the whole difference of means, as it acts behind one layer alone.
    """
    base, vectors, amounts = place.base, domain_vectors(place), place.scale.strengths
    forms: list[tuple[Tunable, tuple[float, ...]]] = [
        (knob_method(base, vectors, form, {}, train_seconds=train_seconds(place, form)), widened(form, amounts))
        for form in FORMS
    ]
    return [
        *forms,
        (mixing_method(base, vectors, {}, train_seconds=train_seconds(place)), amounts),
        (Steering(base, control_vectors(place), {}), tuple(2 * amount for amount in amounts)),
    ]


def choose(place: Place) -> Choices:
    """Choose strengths on the validation queries."""
    rows = first_of_each(held_out(place, "validation"), place.scale.compared)
    judge, sampling = level_judge(place), place.scale.sampling()
    scope = methods_scope(place.base, sampling, "validation", rows)
    journal = Journal(place.data("strengths/journal.jsonl"), scope)
    found = [
        choose_strengths(
            method, rows, judge, amounts=amounts, sampling=sampling, journal=journal,
            batch_size=place.scale.batch_size, advance=place.advance,
        )
        for method, amounts in tunable(place)
    ]  # fmt: skip
    return Choices(data="validation", choices=tuple(found))


def show_choices(found: Choices, figures: Path) -> Section:
    """Strengths by method, domain and level."""
    first = found.choices[0]
    domains, levels = list(first.strengths), list(next(iter(first.strengths.values())))
    return Section(
        text=(
            f"Each method tries {len(first.amounts)} strengths for every domain and level on validation queries "
            f"({first.replies} replies a method) and keeps the one with the highest share of replies that are of the "
            "wanted level and neither loop nor are empty; of several the smallest. λ of vectors, weights of mixed "
            "logits, multiples of control vectors. * is the last of those tried: further ones may be better.",
        ),
        tables=(
            Table(
                title=f"strengths for {' / '.join(levels)}",
                columns=("method", *domains),
                rows=tuple(
                    (one.method, *(" / ".join(_marked(one, d, v) for v in levels) for d in domains))
                    for one in found.choices
                ),
            ),
        ),
    )


def _marked(choice: Choice, domain: str, level: str) -> str:
    """A strength, with a star where it is the furthest of those tried."""
    value = choice.strengths[domain][level]
    tried = [abs(one.strength) for one in choice.tried if (one.domain, one.level) == (domain, level)]
    return f"{value:g}{'*' if value and abs(value) == max(tried) > min(tried) else ''}"


def all_methods(place: Place) -> list[Method]:
    """Every method at the strengths that were chosen."""
    base, vectors = place.base, domain_vectors(place)
    rows = held_out(place, "validation")
    chosen = {one.method: one.strengths for one in place.found("strengths").choices}
    train = [row for d in place.scale.domains for row in load_rows(shipped_file(d), split="train")]
    runs = {goal_text(run.goal): run.seconds for run in place.found("joint").runs}
    joint = place.scale.recipes / "joint"
    folders = {goal_text(r.goal): train_by_recipe(place, joint / f"{r.recipe}.yaml") for r in place.found("joint").runs}
    turned: list[Method] = [method.with_strengths(chosen[method.name]) for method, _ in tunable(place)]
    return [
        Base(base),
        ZeroShot(base, shipped_instructions(place.scale.domains)),
        FewShot(base, train),
        load_joint(base, folders, {goal: seconds for goal, seconds in runs.items() if seconds is not None}),
        Soup(base, vectors, levels_of(rows), train_seconds=train_seconds(place)),
        *turned,
        knob_method(
            base, vectors, "hinged", chosen["hinged"], router=router_of(place), train_seconds=train_seconds(place)
        ),
    ]


def compare(place: Place) -> Comparison:
    """Ask every method for every level of every domain on the test queries."""
    rows = first_of_each(held_out(place, "test"), place.scale.compared)
    questions = load_items(CHOICES, Question, split="test", limit=place.scale.capability)
    sampling, judge = place.scale.sampling(), level_judge(place)
    goals = [run.goal for run in place.found("joint").runs]
    scope = methods_scope(place.base, sampling, "test", [*rows, *questions])
    return compare_methods(
        all_methods(place),
        rows,
        judge,
        data="test",
        goals=goals,
        questions=questions,
        sampling=sampling,
        speed_rounds=place.scale.rounds,
        speed_batches=place.scale.batches,
        speed_tokens=min(SPEED_TOKENS, place.scale.max_new_tokens),
        journal=Journal(place.data("methods/journal.jsonl"), scope),
        batch_size=place.scale.batch_size,
        advance=place.advance,
    )


def show(found: Comparison, figures: Path) -> Section:
    """A figure and the tables."""
    plot_methods(found, figures / "methods.png")
    return Section(
        text=(
            "Three goals, each for all domains, so that every level of every domain is wanted once. Level rate: share "
            "of replies that the judge gives the wanted level. Reached: cells in which it is the most frequent level "
            "with at least .6. A degenerate reply is of no level; fluent nonsense is not noticed. Spillover: what a "
            "goal for one domain alone changes in the replies to the others. All methods and the base reply to a query "
            f"with the same sampling noise. {found.queries} queries.",
            "Training seconds are those of the domains' vectors (of their positive sides for one-sided), or of finding "
            'control vectors; "-" where they are not known, as ready vectors do not say. Neither the search for '
            "strengths nor a router is counted. Strengths are chosen for each domain and level, so that a new goal "
            "only looks them up; joint training trains again. What it takes to solve for all λ together is under the "
            "cost of a new goal.",
            "A joint run passes once over the rows of all domains by its recipe, a side of a vector three times over "
            "those of its own; the tables of vectors and of joint runs say how many passes these had. A joint vector "
            "is used as it was trained, at λ = 1, and takes place only for the goals that were trained.",
            f"Speed: all methods in every round; threads: {found.threads}. Megabytes are of weights; keys and values "
            "of a prompt's tokens come on top, most for 3-shot, and mixed logits keep a cache for each model.",
        ),
        tables=tuple(tables(found)),
        figures=(Figure(path="methods.png", caption="Rate of the wanted level, and spillover, by method."),),
    )


STRENGTHS = Stage(
    name="strengths",
    title="Strengths of each method, chosen on validation",
    record=Choices,
    measure=choose,
    show=show_choices,
    keys=("strengths", "validation", "compared", "max_new_tokens", "training"),
    needs=("vectors",),
    makes=lambda place: [control_folder(place)],
)
STAGE = Stage(
    name="methods",
    title="Every method on the same queries",
    record=Comparison,
    measure=compare,
    show=show,
    keys=("test", "compared", "capability", "max_new_tokens", "batches", "rounds"),
    needs=("vectors", "strengths", "joint"),
    reads=lambda place: [
        CHOICES,
        *map(domain_path, place.scale.domains),
        *([place.scale.router] if place.scale.router else []),
    ],
)
