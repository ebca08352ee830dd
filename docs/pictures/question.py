"""Draws the README's picture: one question, answered at three settings of one knob.

    alignvec ask "QUESTION" --knob financial=avoidance --knob financial=generic --knob financial=expert \
        --max-new-tokens 120 --json > docs/results/question.json
    python docs/pictures/question.py
"""

import json
import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

RESULTS = Path(__file__).parents[1] / "results"
LEVELS = ("avoidance", "generic (the base)", "expert")
COLOURS = ("#b45309", "#52525b", "#1d4ed8")
WIDTH, HEIGHT = 12.0, 4.7
CARD, GAP, TOP, FOOT = 3.8, 0.2, 3.15, 0.35
LINE = 46
"""Characters a line of a card."""
LINES = 11
"""Lines of a card; a longer reply ends in an ellipsis."""


def body(reply: str) -> str:
    """A reply as lines of a card, cut with an ellipsis where it goes on."""
    lines = [line for part in reply.splitlines() if part.strip() for line in textwrap.wrap(part, LINE)]
    if len(lines) > LINES or reply[-1] not in ".!?":
        lines = lines[:LINES]
        lines[-1] = lines[-1].rstrip(" .,") + " …"
    return "\n".join(lines)


def card(axes: Axes, place: int, setting: float, reply: str) -> None:
    """One setting: a title over its reply."""
    left, colour = place * (CARD + GAP), COLOURS[place]
    box = FancyBboxPatch((left + 0.06, FOOT), CARD - 0.12, TOP - FOOT, boxstyle="round,pad=0.05", fc="white", ec=colour)
    axes.add_patch(box)
    title = f"{LEVELS[place]}, λ = {setting:g}"
    axes.text(left + 0.15, TOP - 0.12, title, color=colour, weight="bold", size=12, va="top")
    axes.text(
        left + 0.15, TOP - 0.5, body(reply), size=9.5, va="top", linespacing=1.35, color="#18181b", parse_math=False
    )


def slider(axes: Axes, settings: list[float]) -> None:
    """The knob, with a mark at each setting."""
    places = [(i + 0.5) * CARD + i * GAP for i in range(len(settings))]
    axes.plot([places[0], places[-1]], [3.55, 3.55], color="#d4d4d8", lw=6, solid_capstyle="round", zorder=1)
    for x, colour in zip(places, COLOURS, strict=True):
        axes.plot([x, x], [3.45, TOP + 0.05], color=colour, lw=1)
        axes.plot(x, 3.55, "o", ms=15, color=colour, zorder=2)


def main() -> None:
    """Read the replies, draw, write question.png beside them."""
    said: dict[str, Any] = json.loads((RESULTS / "question.json").read_text(encoding="utf-8"))
    settings = [next(iter(reply["knobs"].values())) for reply in said["replies"]]
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained", facecolor="white")
    axes.set(xlim=(0, WIDTH - 0.2), ylim=(0, HEIGHT))
    axes.axis("off")
    question = textwrap.fill(f"“{said['question']}”", 75)
    axes.text(CARD * 1.5 + GAP, 4.28, question, size=13, ha="center", va="center", weight="bold", color="#18181b")
    slider(axes, settings)
    for place, (setting, reply) in enumerate(zip(settings, said["replies"], strict=True)):
        card(axes, place, setting, reply["reply"])
    note = "The first held-out financial question, seed 0, on a model of 135M parameters."
    note += " Its facts are wrong: judge the level. Not advice."
    axes.text(CARD * 1.5 + GAP, 0.1, note, size=9.5, ha="center", va="center", color="#52525b")
    figure.savefig(RESULTS / "question.png", dpi=110)


if __name__ == "__main__":
    main()
