"""Capability of one knob over λ as tables and files."""

from collections.abc import Sequence
from pathlib import Path

from alignvec.evaluate.capability_record import MEASURES, Capability, Said, measured
from alignvec.evaluate.table import Table
from alignvec.files import write_text


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
