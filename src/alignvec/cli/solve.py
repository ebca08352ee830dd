"""`alignvec solve`: from a level for each domain to the knobs that reach it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    LimitOption,
    MaxNewTokensOption,
    ModelOption,
    OtherBaseOption,
    SeedOption,
    Split,
    TemperatureOption,
    VectorsOption,
    data_name,
    load_knobbed,
    print_json,
    print_table,
    vector_places,
)
from alignvec.progress import progress

if TYPE_CHECKING:
    from alignvec.data.schema import PreferenceRow


FEW = 10
"""Queries of a domain below which its rates are too coarse to decide a goal."""


def solve(
    goal: Annotated[
        list[str] | None,
        typer.Option("--goal", help="wanted level of a domain, such as medical=expert; repeatable, one a domain"),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="solve for every combination of levels, instead of --goal")
    ] = False,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", help="how much a domain counts, such as medical=2; repeatable")
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            help="bound to keep, such as perplexity<=1.1 (of the base's) or medical=expert<=0.2 (a rate); repeatable",
        ),
    ] = None,
    by: Annotated[
        Literal["level", "preference"],
        typer.Option("--by", help="level: generated replies, by the judge; preference: likeliest reference reply"),
    ] = "level",
    settings: Annotated[int, typer.Option("--settings", min=3, help="settings that are measured first")] = 40,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="most rounds of verifying and refining")] = 3,
    budget: Annotated[int, typer.Option("--budget", min=4, help="most settings that are measured in all")] = 53,
    vectors: VectorsOption = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="JSON-lines file; repeatable; default: shipped data")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", help="JSON-lines file of rows whose perplexity is bound; default: general questions"),
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "validation",
    limit: LimitOption = None,
    router: Annotated[
        Path | None, typer.Option("--router", help="folder of a router: settings for a model that routes each prompt")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for settings.yaml, solve.json and the journal")
    ] = None,
    model: ModelOption = "demo",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Find the knobs that give every domain its wanted level.

    Says so where none do. All goals are solved from one set of measured settings. Killed, the same command with --out
    goes on where it was.
    """
    from dataclasses import replace

    from alignvec.data.load import levels_of, load_files, load_rows, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.evaluate.judge import judge_for
    from alignvec.solve.box import box_of
    from alignvec.solve.goals import all_goals, check_consistent, parse_constraints, parse_goals
    from alignvec.solve.measure import Meter
    from alignvec.solve.plot import plot_goals, plot_pareto
    from alignvec.solve.report import rows_of, solution_of, write_solution
    from alignvec.solve.solver import Solver
    from alignvec.steer.routed import router_for, row_shares
    from alignvec.steer.sampling import Sampling
    from alignvec.vectors.store import load_card

    if every == bool(goal):
        raise ConfigError("give either --goal, once for each domain, or --all")
    if every and weight:
        raise ConfigError("--weight is for a --goal of your own; leave it out with --all")
    if budget <= settings:
        raise ConfigError(f"--budget {budget} must be more than --settings {settings}, as the base is measured too")
    places = vector_places(vectors)
    cards = {name: load_card(place) for name, place in places.items()}
    paths = data or list(dict.fromkeys(shipped_file(card.domain or name) for name, card in cards.items()))
    rows = load_files(paths, split=split, limit=limit)
    domains, levels = tuple(dict.fromkeys(row.domain for row in rows)), levels_of(rows)
    goals = all_goals(domains, levels) if every else [parse_goals(goal or [], domains, levels, weight or ())]
    bounds = parse_constraints(constraint or [], domains, levels)
    goals = [replace(one, constraints=bounds) for one in goals]
    if not every:
        check_consistent(goals[0])
    texts = load_rows(text or shipped_file("general"), limit=limit) if goals[0].bounds_perplexity else []
    _tell_few(rows)
    if texts:
        typer.echo(
            f"perplexity: every setting is also measured on {len(texts)} texts, beside {len(rows)} queries; "
            "--limit takes fewer of both",
            err=True,
        )
    box = box_of(cards)
    judge = judge_for(*paths) if by == "level" else None
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    described = data_name(paths, split, limit)
    journal = out / "journal.jsonl" if out else None
    meter = Meter(knobbed, box, rows, texts=texts, judge=judge, sampling=sampling, data=described, journal=journal)
    shares = None
    if router is not None:
        shares = row_shares(
            router_for(knobbed.base, router), knobbed, [row.query for row in (*rows, *texts)], box.names
        )
    solver = Solver(meter, by, shares)
    with progress() as advance:
        solver.explore(settings, seed, advance)
        solved = solver.solve(goals, rounds=rounds, budget=budget, advance=advance)
    behaviour, rates = solver.fitted()
    solution = solution_of(solver, meter, solved, cards=cards)
    traded = len(solution.goals[0].goal) > 1 and not every
    if out:
        write_solution(solution, out)
        plot_goals(solution.goals, out / "goals.png", title=f"{solution.data}, by {by}{', routed' if router else ''}")
        if traded:
            plot_pareto(behaviour, rates, solution.goals, out / "pareto.png")
    if json:
        print_json(solution)
        return
    columns, lines, legend = rows_of(solution)
    print_table(columns, lines)
    typer.echo(legend)
    typer.echo(solution.summary())
    if judge:
        typer.echo(judge.report.summary())
    for one in solution.goals:
        if one.constraints:
            cost = "" if one.perplexity is None else f"; perplexity {one.perplexity:.2f} times the base's"
            typer.echo(f"{' '.join(one.goal.values())}: bounds {'kept' if one.kept else 'broken'}{cost}")
        if one.blocked_by:
            typer.echo(f"{' '.join(one.goal.values())}: {one.blocked_by}")
    if out:
        typer.echo(f"{out}: settings.yaml solve.json goals.png{' pareto.png' if traded else ''} journal.jsonl")


def _tell_few(rows: Sequence["PreferenceRow"]) -> None:
    """A warning on stderr where domains have so few queries that a goal is hardly decided."""
    counts = Counter(row.domain for row in rows)
    if few := ", ".join(f"{domain} {count}" for domain, count in counts.items() if count < FEW):
        typer.echo(
            f"warning: few queries ({few}): rates move in steps of 1/n, so goals are hardly decided; "
            f"use {FEW} or more a domain (--limit, --split, --data)",
            err=True,
        )
