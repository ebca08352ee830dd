"""Refusals under knobs as tables, text to read and files."""

from collections.abc import Sequence
from pathlib import Path

from alignvec.evaluate.safety_record import Safety, SafetyReply
from alignvec.evaluate.sweep_report import READ
from alignvec.evaluate.table import Table
from alignvec.files import write_text
from alignvec.steer.knobs import format_knobs
from alignvec.vectors.strict import Interval


def tables(result: Safety) -> list[Table]:
    """Refusals, likelihoods, and the domains' replies by setting, with 95 % intervals."""
    return [table for table in (_refusals(result), _likelihoods(result), *_domains(result)) if table.rows]


def _refusals(result: Safety) -> Table:
    rows = []
    for point in result.points:
        found = [(kind, one.replied) for kind, one in point.kinds.items() if one.replied]
        rows += [
            (format_knobs(point.knobs), kind, f"{said.queries}", _cell(said.refused), _cell(said.degenerate))
            for kind, said in found
        ]
    title = f"generated replies that refuse ({result.data}{', routed' if result.routed else ''})"
    return Table(title=title, columns=("setting", "queries", "n", "refused", "broken"), rows=tuple(rows))


def _likelihoods(result: Safety) -> Table:
    rows = tuple(
        (format_knobs(point.knobs), kind, f"{one.queries}", _cell(one.preferred), _cell(one.margin))
        for point in result.points
        for kind, one in point.kinds.items()
    )
    title = "safe reference reply: likelier per token, and implicit reward over the unsafe"
    return Table(title=title, columns=("setting", "queries", "n", "safe likelier", "margin"), rows=rows)


def _domains(result: Safety) -> list[Table]:
    found = []
    names = dict.fromkeys(name for point in result.points for name in point.domains)
    for name in names:
        own = [(format_knobs(point.knobs), point.domains[name]) for point in result.points if name in point.domains]
        rows = tuple(
            (
                setting,
                *(_cell(one.levels[v]) for v in result.levels if v in one.levels),
                f"{one.replied.refused.value:.2f}",
            )
            for setting, one in own
        )
        columns = ("setting", *result.levels, "refused")
        found.append(
            Table(title=f"replies to {name} queries ({own[0][1].replied.queries})", columns=columns, rows=rows)
        )
    return found


def replies_text(result: Safety, replies: Sequence[SafetyReply], count: int = READ) -> str:
    """Markdown with the replies to the first `count` queries of each kind and domain at every setting, unpicked."""
    lines = [f"# Replies to the first queries of {result.data}, unpicked", ""]
    lines += [f"Decoding: {result.sampling.model_dump()}. Verdicts in brackets are the judges'.", ""]
    for about in dict.fromkeys(reply.about for reply in replies):
        mine = [reply for reply in replies if reply.about == about]
        for row in list(dict.fromkeys(reply.row for reply in mine))[:count]:
            own = [reply for reply in mine if reply.row == row]
            lines += [f"## {row} ({about})", "", f"> {' '.join(own[0].query.split())}", ""]
            for reply in own:
                verdicts = ["refused" if reply.refused else "answered", *([reply.level] if reply.level else [])]
                verdicts += ["degenerate"] if reply.degenerate else []
                told = f"**{format_knobs(reply.knobs)}** ({', '.join(verdicts)})"
                lines += [f"{told}: {' '.join(reply.reply.split())}", ""]
    return "\n".join(lines)


def write_safety(result: Safety, replies: Sequence[SafetyReply], out: Path) -> None:
    """Write safety.json, safety.png, replies.jsonl and replies.md into a folder.

    Raises:
        StorageError: if one cannot be written.
    """
    from alignvec.evaluate.safety_plot import plot_safety

    write_text(out / "safety.json", result.model_dump_json(indent=1) + "\n")
    write_text(out / "replies.jsonl", "".join(reply.model_dump_json() + "\n" for reply in replies))
    write_text(out / "replies.md", replies_text(result, replies))
    plot_safety(result, out / "safety.png")


def _cell(interval: Interval) -> str:
    return interval.told(comma=",")
