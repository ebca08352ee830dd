"""Pictures that are read from stored measurements: calibration, surface, spillover."""

import json
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from style import DIVERGING, HIGH, INK, LOW, PAPER, ROOT, SEQUENTIAL, SOFT, THIRD, bare, figure

from alignvec import models
from alignvec.data.load import load_files
from alignvec.evaluate.journal import read_journal
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.box import box_of
from alignvec.solve.isotonic import rising_curve
from alignvec.solve.replay import replay
from alignvec.solve.surface import Surface
from alignvec.vectors.store import find_vectors, load_card

RESULTS = ROOT / "docs" / "results"


def calibration() -> Figure:
    """Isotonic fit of how many of the medical replies are expert, and not avoidance, over λ."""
    rows = {row.id: row for row in load_files([ROOT / "data" / "levels" / "medical.jsonl"])}
    text = (RESULTS / "data" / "curves" / "medical" / "replies.jsonl").read_text(encoding="utf-8")
    said = [json.loads(line) for line in text.splitlines()]
    lambdas = sorted({reply["coefficient"] for reply in said})
    queries = sorted({reply["row"] for reply in said})
    level = {(reply["coefficient"], reply["row"]): reply["level"] for reply in said}
    found = np.array([[level[at, query] for query in queries] for at in lambdas])
    personas = [rows[query].persona for query in queries]
    drawn = figure(7.6, 4.2)
    axes = drawn.subplots()
    for hits, colour, name in ((found != "avoidance", LOW, "not avoidance"), (found == "expert", HIGH, "expert")):
        fit = rising_curve(hits, personas)
        axes.fill_between(lambdas, [f.low for f in fit], [f.high for f in fit], color=colour, alpha=0.15, lw=0)
        axes.plot(lambdas, [f.value for f in fit], color=colour, lw=2.2, label=f"{name}: rising fit, 95 % band")
        axes.plot(lambdas, hits.mean(axis=1), "o", color=colour, mfc=PAPER, ms=7, label=f"{name}: counted")
    half = 0.5 * (fit[lambdas.index(0.0)].value + fit[lambdas.index(1.0)].value)
    at = float(np.interp(half, [f.value for f in fit[3:6]], lambdas[3:6]))
    axes.annotate(
        f"medical=50%\nλ = {at:.2f}", (at, half), xytext=(at + 0.1, half - 0.2), color=HIGH,
        arrowprops={"arrowstyle": "-|>", "color": HIGH},
    )  # fmt: skip
    axes.set_xlabel(f"λ of the medical knob ({len(queries)} test queries, {len(set(personas))} personas)")
    axes.set_ylabel("share of generated replies")
    axes.set_ylim(-0.03, 1.05)
    axes.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(0.0, 0.93))
    axes.set_title("λ is not a percentage: the same step does more in one place than in another")
    print("calibration", dict(zip(lambdas, [round(f.value, 3) for f in fit], strict=True)), "half at", round(at, 3))
    return drawn


def surface() -> Figure:
    """The fitted margin of expert over avoidance, over two knobs, in the domains of both, with what was measured."""
    from transformers import AutoTokenizer

    cards = {name: load_card(place) for name, place in find_vectors(ROOT / "vectors").items()}
    rows = tuple(load_files([ROOT / "data" / "levels" / f"{name}.jsonl" for name in cards]))
    box = box_of(cards)
    journal = read_journal(RESULTS / "solving" / "measured.jsonl")
    tokenizer: Any = AutoTokenizer.from_pretrained(models.resolve("demo"))
    measured = replay(journal, cards, rows, tokenizer=tokenizer, judge=None)
    behaviour = Behaviour(box, measured)
    x, y, z = (box.names.index(name) for name in ("medical", "legal", "financial"))
    steps = 81
    ends = [np.linspace(box.axes[i].low, box.axes[i].high, steps) for i in (x, y)]
    grid = np.zeros((steps * steps, len(box.axes)))
    grid[:, x], grid[:, y] = (found.ravel() for found in np.meshgrid(*ends))
    levels = behaviour.levels
    top, bottom = levels.index("expert"), levels.index("avoidance")

    def margins(rewards: Any, domain: str) -> Any:
        return (rewards[..., top] - rewards[..., bottom])[:, measured.of(domain)].mean(axis=1)

    rewards, seen = behaviour.rewards(grid), measured.scores.implicit()
    flat = np.abs(measured.points[:, z]) < 1e-9
    drawn = figure(10.6, 3.9)
    *panels, check = drawn.subplots(1, 3, width_ratios=[1, 1, 1.05])
    reach = 1.6
    for axes, domain in zip(panels, ("medical", "legal"), strict=True):
        shape = margins(rewards, domain).reshape(steps, steps)
        colours = {"cmap": DIVERGING, "vmin": -reach, "vmax": reach}
        painted = axes.imshow(
            shape, origin="lower", extent=(ends[0][0], ends[0][-1], ends[1][0], ends[1][-1]), aspect="auto",
            interpolation="bilinear", **colours,
        )  # fmt: skip
        lines = axes.contour(*ends, shape, levels=np.arange(-1.5, 1.0, 0.25), colors=INK, linewidths=0.6, alpha=0.6)
        axes.clabel(lines, lines.levels[::2], fontsize=7.5, fmt="%g")
        points = measured.points[flat]
        axes.scatter(
            points[:, x], points[:, y], c=margins(seen, domain)[flat], edgecolors=INK, s=75, linewidths=1.2, zorder=3,
            clip_on=False, **colours,
        )  # fmt: skip
        axes.set_xlabel("λ of the medical knob")
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set_yticks([-1, -0.5, 0, 0.5, 1])
        axes.set_title(f"{domain} queries (circles: measured)")
    panels[0].set_ylabel("λ of the legal knob")
    bar = drawn.colorbar(painted, ax=panels[1])
    bar.set_label("margin, nats a token", color=INK)
    bar.outline.set_visible(False)
    told = _left_out(behaviour, seen)
    for domain, colour in (("medical", HIGH), ("legal", LOW), ("financial", THIRD)):
        check.plot(margins(seen, domain), margins(told, domain), "o", ms=5, color=colour, alpha=0.75, label=domain)
    ends_of_all = [-2.3, 1.1]
    check.plot(ends_of_all, ends_of_all, color=SOFT, lw=1)
    check.set_xlabel("margin, measured")
    check.set_ylabel("told without that setting")
    check.set_title(f"all {len(seen)} settings, left out in turn")
    check.legend(fontsize=8.5)
    drawn.suptitle("Margin of expert over avoidance, nats a token", fontsize=10.5, color=INK, x=0.01, ha="left")
    off = [np.abs(margins(told, domain) - margins(seen, domain)).mean() for domain in measured.domains]
    print("surface", vars(behaviour.surface.fit), int(flat.sum()), "on the slice of", len(flat))
    print("left out: mean error", dict(zip(measured.domains, np.round(off, 3).tolist(), strict=True)))
    return drawn


def _left_out(behaviour: Behaviour, seen: Any) -> Any:
    """Rewards at every setting by a surface that was fitted to the others."""
    measured, fit = behaviour.measured, behaviour.surface.fit
    changes = seen.reshape(len(seen), -1)
    found = np.empty_like(changes)
    for i in range(len(seen)):
        others = np.arange(len(seen)) != i
        one = Surface(behaviour.box, measured.points[others], changes[others], degrees=(fit.degree,))
        found[i] = one.predict(measured.points[i : i + 1])[0]
    return found.reshape(seen.shape)


def spillover() -> Figure:
    """Every knob at its levels' λ against every domain, plain and behind the router."""
    drawn = figure(8.4, 4.2)
    panels = drawn.subplots(1, 2, sharey=True)
    for axes, name, title in zip(
        panels, ("spillover", "spillover-routed"), ("knobs alone", "behind the router"), strict=True
    ):
        found = json.loads((RESULTS / "solving" / f"{name}.json").read_text(encoding="utf-8"))
        ends = {"financial": (-1.5, 1.0), "legal": (-1.0, 1.0), "medical": (-1.0, 1.0)}
        rows = [(knob, at) for knob, both in ends.items() for at in both]
        domains = found["domains"]
        cells = {(c["knob"], c["coefficient"], c["domain"]): c["level"]["size"]["value"] for c in found["cells"]}
        table = 100 * np.array([[cells[knob, at, domain] for domain in domains] for knob, at in rows])
        bare(axes)
        axes.imshow(table, cmap=SEQUENTIAL, vmin=0, vmax=70, aspect="auto")
        for i, (knob, _) in enumerate(rows):
            for j, domain in enumerate(domains):
                own = knob == domain
                axes.text(
                    j, i, f"{table[i, j]:.0f}", ha="center", va="center", weight="bold" if own else "normal",
                    color="white" if table[i, j] > 30 else INK,
                )  # fmt: skip
                if own:
                    axes.add_patch(_frame(j, i))
        axes.set_xticks(range(len(domains)), domains)
        axes.set_yticks(range(len(rows)), [f"{knob} = {at:g}" for knob, at in rows])
        axes.tick_params(length=0, colors=INK)
        axes.set_xlabel("queries of", color=SOFT)
        axes.set_title(title)
    panels[0].set_ylabel("knob", color=SOFT)
    drawn.suptitle(
        "Change of the generated replies' levels against the base, points (framed: the knob's own domain)",
        fontsize=10.5, color=INK, x=0.01, ha="left",
    )  # fmt: skip
    return drawn


def _frame(x: float, y: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, fill=False, edgecolor=LOW, lw=2)
