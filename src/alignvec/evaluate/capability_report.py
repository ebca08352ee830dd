"""Capability of one knob over λ as a record, tables and files."""

from collections.abc import Sequence
from pathlib import Path

from alignvec.evaluate.capability import Cost, Measured, Said
from alignvec.evaluate.sweep import Table
from alignvec.files import write_text
from alignvec.provenance import Provenance
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Strict

MEASURES = ("perplexity", "answers", "letters", "followed")
"""Figures of a cost, in the order of the tables."""


class Capability(Strict):
    """Everything that `capability.json` holds.

    Attributes:
        vector: the knob's name.
        data: names of the items.
        text: number of pieces of general text.
        questions: number of questions with four choices.
        instructions: number of instructions.
        curve: one cost for each λ, in ascending order.
    """

    vector: str
    base: str
    data: str
    text: int
    questions: int
    instructions: int
    sampling: Sampling
    curve: tuple[Cost, ...]
    provenance: Provenance

    def coefficients(self) -> list[float]:
        """λ of every entry of the curve."""
        return [cost.knobs.get(self.vector, 0.0) for cost in self.curve]


def measured(cost: Cost, name: str) -> Measured:
    """One of `MEASURES`."""
    found: Measured = getattr(cost, name)
    return found


def tables(result: Capability) -> list[Table]:
    """The figures by λ, and their changes against the base, with 95 % intervals."""
    values, changes = [], []
    for value, cost in zip(result.coefficients(), result.curve, strict=True):
        shares = [measured(cost, name) for name in MEASURES[1:]]
        told = [cost.perplexity.value.told(".3g", comma=","), *(s.value.told(".2f", comma=",") for s in shares)]
        values.append((f"{value:g}", *told))
        if value:
            moved = [s.change.told("+.0f", scale=100, comma=",") for s in shares]
            changes.append((f"{value:g}", cost.perplexity.change.told(".3g", comma=","), *moved))
    counts = f"{result.text} texts, {result.questions} questions, {result.instructions} instructions"
    found = [Table(title=f"{result.vector}: {counts}", columns=("λ", *MEASURES), rows=tuple(values))]
    if changes:
        title = "against the base: perplexity as a multiple, the others in points"
        found.append(Table(title=title, columns=("λ", *MEASURES), rows=tuple(changes)))
    return found


def write_capability(result: Capability, replies: Sequence[Said], out: Path) -> None:
    """Write capability.json, capability.png and replies.jsonl into a folder.

    Raises:
        StorageError: if one cannot be written.
    """
    from alignvec.evaluate.capability_plot import plot_capability

    write_text(out / "capability.json", result.model_dump_json(indent=1) + "\n")
    write_text(out / "replies.jsonl", "".join(reply.model_dump_json() + "\n" for reply in replies))
    plot_capability(result, out / "capability.png")
