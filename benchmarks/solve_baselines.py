"""How many evaluations does the solver need, and how many grid search, random search and Optuna?

From the journal of `alignvec solve --out`, and others. With `--mode stand-in` the model is replaced by a surface fitted
to all measured settings: measurements are drawn from it, noise included, and a method is reported by the noiseless
objective of the setting that it believes best. The surface is of the kind that our solver fits, which favours it; so
`--mode pool` lets every method choose among the measured settings alone, and reports the measured objective, which the
methods have seen and which is therefore too high for all of them. Ends in one JSON line.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from solving import add_options, at_least, in_one_line, measured_at, same_scope, set_up

from alignvec.evaluate.journal import Journal
from alignvec.evaluate.statistics import bootstrap_mean
from alignvec.files import storage_errors
from alignvec.provenance import provenance
from alignvec.solve.baselines import Curves, Method, compare, gp, grid, random, surface, tpe
from alignvec.solve.behaviour import together
from alignvec.solve.box import Box
from alignvec.solve.goals import Goal, all_goals
from alignvec.solve.measure import Measured
from alignvec.solve.oracle import Oracle, Pool, StandIn
from alignvec.solve.replay import read_journal
from alignvec.solve.search import objective
from alignvec.solve.surface import Array

TOLD = (5, 10, 20, 30, 41, 53, 125, 250, 500, 1331)
"""Numbers of evaluations in the JSON line; the curves have all."""
NEAR = 0.05
"""Shortfall of the median that counts as near the best."""
OURS = "surface"
VIEWS = {"alone": "evaluations for one goal", "together": "evaluations for all goals"}


def methods(mode: str, box: Box, pool: Pool, budget: int) -> list[tuple[Method, int]]:
    """What is compared, with its budget: a grid is measured to its end."""
    chosen: list[tuple[Method, int]] = []
    for steps in (5, 11) if mode == "stand-in" else (5,):
        if mode == "stand-in" or pool.has(box.grid(steps)):
            chosen.append((grid(steps), len(box.grid(steps))))
    if not chosen:
        print("the whole 5^3 grid was not measured (--grid), so the pool is compared without it", file=sys.stderr)
    return [*chosen, *((method, budget) for method in (random(), tpe(), gp(), surface(20), surface(40)))]


def best_known(oracle: Oracle, mode: str, measured: Measured, box: Box, by: Any, goals: Sequence[Goal]) -> Array:
    """The highest objective of every goal: on the 11^3 grid without noise, or in the pool, [goals]."""
    rates = oracle.rates(box.grid(11) if mode == "stand-in" else measured.points, by)
    return np.array([objective(rates, goal, *oracle.names).max() for goal in goals])


def curves(
    method: Method, oracle: Oracle, goals: Sequence[Goal], by: Any, budget: int, seed: int, kept: Journal
) -> Curves:
    """One run of a method, from the journal of runs if it is there."""
    key = f"{method.name} {seed}"
    if key not in kept:
        print(f"{method.name}, seed {seed}", file=sys.stderr)
        found = compare(method, oracle, goals, by=by, budget=budget, seed=seed)
        kept.add(key, [found.alone.tolist(), found.together.tolist(), found.alone_used, found.together_used])
    alone, together, alone_used, together_used = kept[key]
    return Curves(np.array(alone), np.array(together), alone_used, together_used)


def spread(values: Array) -> Array:
    """Quartiles over seeds and goals, [3, evaluations], of [seeds, evaluations, goals]; NaN until all have a belief."""
    return np.percentile(values, [25, 50, 75], axis=(0, 2))


def told(values: Array, best: Array) -> dict[str, Any]:
    """Medians and quartiles at some numbers of evaluations."""
    quartiles = {"objective": spread(values), "shortfall": spread(best - values)}
    shown = [n for n in TOLD if n <= values.shape[1] and np.isfinite(values[:, n - 1]).all()]
    near = np.flatnonzero(quartiles["shortfall"][1] <= NEAR)
    return {
        **{name: {str(n): found[:, n - 1].round(3).tolist() for n in shown} for name, found in quartiles.items()},
        "near_after": int(near[0]) + 1 if len(near) else None,
    }


def against_grid(runs: Sequence[Curves], best: Array) -> dict[str, Any]:
    """How much worse than the best of the grid a method's last belief for all goals is, over goals."""
    final = np.mean([run.together[-1] for run in runs], axis=0)
    worse = bootstrap_mean((best - final).tolist(), [str(i) for i in range(len(best))])
    return {
        "evaluations_for_all_goals": float(np.mean([run.together_used for run in runs])),
        "evaluations_for_one_goal": float(np.mean([run.alone_used for run in runs])),
        "objective": round(float(final.mean()), 4),
        "grid_11_best": round(float(best.mean()), 4),
        "worse_by": worse.model_dump(),
        "worse_by_in_the_worst_goal": round(float((best - final).max()), 4),
    }


def draw(found: dict[str, list[Curves]], best: Array, title: str, path: Path) -> None:
    """Objective and shortfall over evaluations: median, and a band of the quartiles over seeds and goals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for (view, label), column in zip(VIEWS.items(), panels.T, strict=True):
        for i, (name, runs) in enumerate(found.items()):
            values = np.stack([getattr(run, view) for run in runs])
            x = np.arange(1, values.shape[1] + 1)
            for axis, shown in zip(column, (values, best - values), strict=True):
                low, middle, high = spread(shown)
                axis.plot(
                    x,
                    middle,
                    color=f"C{i}",
                    label=name,
                    drawstyle="steps-post",
                    linewidth=2.6 if name.startswith(OURS) else 1.4,
                )
                axis.fill_between(x, low, high, color=f"C{i}", alpha=0.08, step="post")
        column[0].set(title=label, xscale="log")
        column[1].set(xlabel=label)
        column[1].axhline(0, color="0.7", linewidth=0.8)
    panels[0, 0].set_ylabel("objective of the setting believed best")
    panels[1, 0].set_ylabel("shortfall from the best known")
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--more", type=Path, action="append", default=[], help="journal of other settings; repeatable")
    parser.add_argument("--grid", type=Path, help="journal of the 5^3 grid; what it lacks is measured (hours)")
    parser.add_argument("--mode", choices=["stand-in", "pool"], default="stand-in")
    parser.add_argument("--by", choices=["level", "preference"], default="level")
    parser.add_argument("--budget", type=int, default=53, help="most evaluations of a run; Optuna's are for each goal")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--limit", type=int, help="use the first N goals only")
    parser.add_argument("--runs", type=Path, help="journal of finished runs, to go on from when killed")
    parser.add_argument("--plot", type=Path, help="draw the curves (PNG)")
    chosen = parser.parse_args()
    at_least(chosen, budget=4, seeds=1, seed=0, limit=1)
    setup = set_up(chosen, judged=chosen.by == "level")
    box = setup.box
    scope = read_journal(chosen.journal).scope
    for journal in chosen.more:
        same_scope(journal, scope)
    parts = [setup.replay(journal) for journal in (chosen.journal, *chosen.more)]
    if chosen.grid:
        parts.append(measured_at(box.grid(5), chosen.grid, chosen, setup))
    measured = together(parts)
    pool = Pool(box, measured)
    stand_in = StandIn(box, measured) if chosen.mode == "stand-in" else None
    oracle: Oracle = stand_in or pool
    budget = chosen.budget if stand_in else min(chosen.budget, len(measured.points))
    goals = all_goals(*oracle.names)[: chosen.limit]
    best = best_known(oracle, chosen.mode, measured, box, chosen.by, goals)
    said = b"" if measured.said is None else measured.said.tobytes()
    # the best objectives too, as they tell how the stand-in was fitted
    content = measured.points.tobytes() + measured.scores.sums.tobytes() + said + best.round(6).tobytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    scope = {"oracle": digest, "mode": chosen.mode, "by": chosen.by, "budget": budget, "goals": len(goals)}
    kept = Journal(chosen.runs, scope)
    found = {
        method.name: [
            curves(method, oracle, goals, chosen.by, least, seed, kept)
            for seed in range(chosen.seed, chosen.seed + chosen.seeds)
        ]
        for method, least in methods(chosen.mode, box, pool, budget)
    }
    if chosen.plot:
        kind = "stand-in fitted to" if stand_in else "choice among"
        title = f"{kind} {len(measured.points)} measured settings; median and quartiles over seeds and goals"
        draw(found, best, title, chosen.plot)
    views = {
        view: {name: told(np.stack([getattr(run, view) for run in runs]), best) for name, runs in found.items()}
        for view in VIEWS
    }
    print(
        json.dumps(
            {
                "benchmark": "solve_baselines",
                **scope,
                "measured_settings": len(measured.points),
                "fit": vars(stand_in.surface.fit) if stand_in else None,
                "surface_against_grid_11": (
                    {name: against_grid(runs, best) for name, runs in found.items() if name.startswith(OURS)}
                    if stand_in
                    else None
                ),
                "quartiles": views,
                "config": {name: str(value) for name, value in vars(chosen).items() if value is not None},
                **provenance().model_dump(),
            }
        )
    )


if __name__ == "__main__":
    in_one_line(main)
