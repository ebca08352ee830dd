"""Cost of a new goal as tables and as a picture."""

from pathlib import Path

from alignvec.evaluate.drawing import COLOURS
from alignvec.evaluate.table import Table
from alignvec.files import write_figure
from alignvec.reproduce.cost.goal_cost import PAPER, WANTED, GoalCost

COUNTS = (1, 3, 9, 27, 100)
"""Numbers of goals in the table."""


def tables(result: GoalCost) -> list[Table]:
    """Seconds of each part, and how many times cheaper each of k goals is than joint training."""
    about = ", partly at the pace of the rest" if result.estimated else ""
    search = result.search
    parts = [
        ("one joint run, for one goal", result.joint),
        (f"{result.settings} settings measured{about}", result.evaluations),
        ("surface fitted", search.fit),
        (f"search for a goal (median of {len(search.goals)})", search.median),
        ("  fastest, nothing remembered", min(search.goals)),
        ("  slowest, nothing remembered", max(search.goals)),
        (f"verification of a goal ({result.verified} settings)", result.verified * result.evaluation),
        ("first goal from nothing, verified", result.first(verify=True)),
        ("each further goal, verified", result.further(verify=True)),
        ("  in a new process, which fits again", search.fit + result.further(verify=True)),
    ]
    if result.vectors is not None:
        parts.insert(1, ("vectors trained, once", result.vectors))
    rows = []
    for name, verify in (("search alone", False), ("verified", True)):
        rows.append(
            (
                f"further, {name}",
                _told(result.further(verify=verify)),
                _told(result.joint / result.further(verify=verify)),
                "",
            )
        )
    for count in COUNTS:
        with_vectors = "" if result.vectors is None else _told(result.cheaper(count, verify=True, vectors=True))
        each = result.each_of(count, verify=True)
        rows.append((f"each of {count}, verified", _told(each), _told(result.joint / each), with_vectors))
    found = [
        Table(
            title="seconds of solving and of joint training",
            columns=("what", "seconds"),
            rows=tuple((name, _told(seconds)) for name, seconds in parts),
        ),
        Table(
            title=f"a goal by solving, times cheaper than jointly trained (paper: {PAPER:g}; meant: {WANTED:g})",
            columns=("goal", "seconds", "times cheaper", "counting vectors"),
            rows=tuple(rows),
        ),
        Table(title="formula", columns=("line",), rows=tuple((line,) for line in result.formula().split("\n"))),
    ]
    if len(set(result.machines.values())) > 1:
        told = tuple((part, machine[:60]) for part, machine in result.machines.items())
        found.append(
            Table(title="measured on different machines: ratios mix them", columns=("part", "machine"), rows=told)
        )
    return found


def _told(value: float) -> str:
    """Three digits or more."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def plot_goal_cost(result: GoalCost, path: Path) -> None:
    """Draw seconds a goal over the number of goals into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    counts = [round(10 ** (i / 20)) for i in range(41)]
    lines = [
        ("joint training", [result.joint for _ in counts], "-"),
        ("solving, verified", [result.each_of(k, verify=True) for k in counts], "-"),
        ("solving, search alone", [result.each_of(k, verify=False) for k in counts], "--"),
    ]
    if result.vectors is not None:
        told = "solving, verified, with the vectors' training"
        lines.append((told, [result.each_of(k, verify=True, vectors=True) for k in counts], ":"))
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axis = figure.subplots()
    for colour, (name, seconds, style) in zip(COLOURS, lines, strict=False):
        axis.plot(counts, seconds, style, color=colour, label=name)
    axis.axhline(result.joint / PAPER, color="0.5", linewidth=0.8, linestyle=":")
    axis.text(counts[-1], result.joint / PAPER, f"1/{PAPER:g} (paper) ", ha="right", va="bottom", fontsize=8)
    axis.set(xscale="log", yscale="log", xlabel="goals solved on one set of evaluations", ylabel="seconds a goal")
    axis.legend(frameon=False, fontsize=8)
    axis.set_title("cost of a multi-domain goal", fontsize=10)
    write_figure(path, figure)
