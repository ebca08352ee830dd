"""Pictures that are computed from the shipped vectors and the demo model's weights: vector, gate, rounding."""

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from safetensors import safe_open
from style import HIGH, INK, LOW, PAPER, ROOT, SEQUENTIAL, SOFT, THIRD, bare, figure

from alignvec import models
from alignvec.merge.rounding import rounded
from alignvec.steer.knobs import parse_knobs
from alignvec.vectors.compare import compare
from alignvec.vectors.store import find_vectors, load_vector
from alignvec.vectors.vector import AlignmentVector

NAMES = ("medical", "legal", "financial")


def _vectors() -> list[AlignmentVector]:
    places = find_vectors(ROOT / "vectors")
    return [load_vector(places[name]) for name in NAMES]


def vector() -> Figure:
    """Base, expert and avoidance model in the plane through them, in the units of the weights."""
    total = compare(_vectors()[:1]).total
    plus, minus = total.norms
    cosine = total.cosines[0][1]
    assert cosine is not None
    angle = math.acos(cosine)
    high = np.array([plus, 0.0])
    low = np.array([minus * cosine, minus * math.sin(angle)])
    drawn = figure(7.6, 4.6)
    axes = drawn.subplots()
    bare(axes)
    axes.set_aspect("equal")
    for end, colour, text, where in (
        (high, HIGH, f"θ₊  expert\n‖Δ₊‖ = {plus:.2f}", (8, -4)),
        (low, LOW, f"θ₋  avoidance\n‖Δ₋‖ = {minus:.2f}", (8, -2)),
    ):
        axes.add_patch(FancyArrowPatch((0, 0), tuple(end), arrowstyle="-|>", mutation_scale=16, lw=2.4, color=colour))
        axes.annotate(text, tuple(end), xytext=where, textcoords="offset points", color=colour, va="center")
        for share in (0.25, 0.5, 0.75):
            axes.plot(*(share * end), "o", color=colour, ms=5, mec=PAPER)
    axes.annotate("λ = 0.5", tuple(0.5 * high), xytext=(0, 8), textcoords="offset points", ha="center", color=HIGH)
    axes.annotate("λ = -0.5", tuple(0.5 * low), xytext=(8, 0), textcoords="offset points", color=LOW)
    back = -0.62 * high
    axes.plot([0, back[0]], [0, back[1]], ls=(0, (4, 3)), color=SOFT, lw=1.6)
    axes.annotate(
        "one-sided, λ < 0:\nexpert taken away,\nno avoidance learned",
        tuple(back), xytext=(-6, 0), textcoords="offset points", color=SOFT, ha="right", va="center",
    )  # fmt: skip
    half = (high - low) / 2
    axes.plot([-half[0], half[0]], [-half[1], half[1]], ls=(0, (1, 2)), color=THIRD, lw=1.8)
    axes.annotate("two-sided: ±(θ₊ − θ₋)/2", tuple(half), xytext=(6, -8), textcoords="offset points", color=THIRD)
    turn = np.linspace(0, angle, 60)
    axes.plot(0.2 * plus * np.cos(turn), 0.2 * plus * np.sin(turn), color=INK, lw=1)
    axes.annotate(
        f"{math.degrees(angle):.0f}°, cosine {cosine:.2f}", (0.15 * plus, 0.15 * plus),
        xytext=(6, 4), textcoords="offset points",
    )  # fmt: skip
    axes.plot(0, 0, "o", color=INK, ms=8)
    axes.annotate("θ_base", (0, 0), xytext=(-8, -16), textcoords="offset points", ha="right")
    axes.set_xlim(back[0] * 2.3, plus * 1.5)
    axes.set_ylim(min(-half[1], half[1]) * 1.25, minus * 1.12)
    axes.set_title("The shipped medical vector, drawn to scale: a hinged knob moves along the solid arrows")
    return drawn


SETTINGS = (
    "medical=1", "medical=-1", "", "medical=0.5,legal=-0.3", "legal=1,financial=-0.5",
    "medical=-0.25,legal=1,financial=0.75",
)  # fmt: skip


def gate() -> Figure:
    """One layer with all stacked factors, and the gate that six requests of one batch have."""
    vectors = _vectors()
    parts = [part for found in vectors for part in found.parts]
    layer = "model.layers.0.self_attn.q_proj.weight"
    ranks = [part.deltas[layer].rank for part in parts]  # type: ignore[attr-defined]
    into, out = parts[0].deltas[layer].shape[1], parts[0].deltas[layer].shape[0]
    settings = [parse_knobs(text) if text else {} for text in SETTINGS]
    gates = np.array([[part.gate(knobs.get(part.vector, 0.0)) for part in parts] for knobs in settings])
    drawn = figure(8.2, 4.7)
    left, right = drawn.subplots(1, 2, width_ratios=[1, 1.45])
    _flow(left, sum(ranks), into, out)
    right.imshow(np.repeat(gates, ranks, axis=1), aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=1)
    edges = np.cumsum([0, *ranks])
    right.set_xticks((edges[:-1] + edges[1:]) / 2 - 0.5)
    right.set_xticklabels([f"{part.vector}\n{'λ > 0' if part.sign > 0 else 'λ < 0'}" for part in parts], fontsize=8)
    right.set_yticks(range(len(SETTINGS)), [text.replace(",", "\n") or "base" for text in SETTINGS], fontsize=8.5)
    for edge in edges[1:-1]:
        right.axvline(edge - 0.5, color=SOFT, lw=0.8)
    for row in range(1, len(SETTINGS)):
        right.axhline(row - 0.5, color=PAPER, lw=3)
    for row, values in enumerate(gates):
        for column, value in enumerate(values):
            if value:
                middle = (edges[column] + edges[column + 1]) / 2 - 0.5
                right.text(middle, row, f"{value:g}", ha="center", va="center", color="white" if value > 0.45 else INK)
    right.tick_params(length=0)
    right.set_title(f"g: {len(SETTINGS)} requests of one batch × R = {'+'.join(map(str, ranks))} = {sum(ranks)}")
    return drawn


def _flow(axes: Any, rank: int, into: int, out: int) -> None:
    bare(axes)
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    boxes = {
        "W": (1.2, 3.6, 2.6, 2.8, SOFT, f"W\n{out} × {into}\nuntouched"),
        "A": (6.0, 2.0, 2.8, 1.1, HIGH, f"A  {rank} × {into}"),
        "g": (6.0, 4.4, 2.8, 1.1, LOW, "∘ g"),
        "B": (6.0, 6.8, 2.8, 1.1, HIGH, f"B  {out} × {rank}"),
    }
    for x, y, width, height, colour, text in boxes.values():
        axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="none"))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color="white")
    arrows = [
        ((5, 0.6), (2.5, 3.5)), ((5, 0.6), (7.4, 1.9)), ((7.4, 3.2), (7.4, 4.3)), ((7.4, 5.6), (7.4, 6.7)),
        ((2.5, 6.5), (4.8, 9.1)), ((7.4, 8.0), (5.2, 9.1)),
    ]  # fmt: skip
    for start, end in arrows:
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=INK, lw=1.2))
    axes.text(5, 0.3, "x", ha="center", va="center", fontsize=12)
    axes.text(5, 9.35, "+", ha="center", va="center", fontsize=15)
    axes.set_title("y = W x + B((A x) ∘ g)")


LAMBDAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
EVERY = 6
"""One layer in so many is looked at."""


def rounding() -> Figure:
    """Realised λ of the medical vector in bfloat16 weights, over λ, for two kinds of base."""
    deltas = _vectors()[0].positive
    kept = [name for name in deltas if int(name.split(".")[2]) % EVERY == 0]
    sums = {key: np.zeros(len(LAMBDAS)) for key in ("demo", "bfloat16", "stochastic")}
    norm = 0.0
    generator = torch.Generator().manual_seed(0)
    path = next(models.resolve("demo").glob("*.safetensors"))
    with safe_open(path, "pt") as weights:
        for name in kept:
            base, delta = weights.get_tensor(name).float(), deltas[name].dense()
            grid = base.bfloat16().float()
            norm += float((delta * delta).sum())
            for i, strength in enumerate(LAMBDAS):
                for key, start, how in (
                    ("demo", base, "nearest"), ("bfloat16", grid, "nearest"), ("stochastic", grid, "stochastic"),
                ):  # fmt: skip
                    found = rounded(start + strength * delta, torch.bfloat16, how, generator).float()  # type: ignore[arg-type]
                    sums[key][i] += float(((found - start) * delta).sum())
    drawn = figure(7.6, 4.2)
    axes = drawn.subplots()
    axes.axhline(1, color=INK, lw=1)
    axes.text(0.0085, 1.02, "exact", va="bottom", ha="left", fontsize=9)
    for key, colour, text in (
        ("bfloat16", HIGH, "base on the bfloat16 grid: small λ rounds away"),
        ("demo", LOW, "4-bit demo base, off the grid: rounding the base adds to it"),
        ("stochastic", THIRD, "base on the grid, stochastic rounding: right on average"),
    ):
        axes.plot(LAMBDAS, sums[key] / norm / np.array(LAMBDAS), "o-", color=colour, ms=4, label=text)
        print(key, dict(zip(LAMBDAS, (sums[key] / norm).round(4).tolist(), strict=True)))
    axes.set_xscale("log")
    axes.set_xticks(LAMBDAS, [f"{value:g}" for value in LAMBDAS])
    axes.minorticks_off()
    axes.set_xlabel("λ asked for (medical vector, λ > 0 side, bfloat16 weights)")
    axes.set_ylabel("realised λ / λ")
    axes.set_ylim(0, None)
    axes.legend(loc="upper right", fontsize=9)
    axes.set_title("What of λ is left in a bfloat16 checkpoint")
    return drawn
