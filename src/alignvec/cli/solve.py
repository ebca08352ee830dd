"""`alignvec solve`: from a level for each domain to the knobs that reach it."""

from pathlib import Path
from typing import Annotated, Literal

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
    load_knobbed,
    print_json,
    print_table,
    progress,
    vector_places,
)


def solve(
    goal: Annotated[
        list[str] | None, typer.Option("--goal", help="level of a domain, such as medical=expert; repeatable")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="every combination of levels")] = False,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", help="how much a domain counts, such as medical=2; repeatable")
    ] = None,
    by: Annotated[
        Literal["level", "preference"],
        typer.Option("--by", help="level: generated replies, by the judge; preference: likeliest reference reply"),
    ] = "level",
    settings: Annotated[int, typer.Option("--settings", min=3, help="settings that are measured first")] = 40,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="most rounds of verifying and refining")] = 3,
    budget: Annotated[int, typer.Option("--budget", min=4, help="most settings that are measured in all")] = 100,
    vectors: VectorsOption = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="JSON-lines file; repeatable; default: shipped data")
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "validation",
    limit: LimitOption = None,
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
    """Find the knobs that give every domain its wanted level, and say so where none do.

    All goals are solved from one set of measured settings. Killed, the same command with --out goes on where it was.
    """
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.evaluate.judge import judge_for
    from alignvec.provenance import provenance
    from alignvec.solve.behaviour import Behaviour
    from alignvec.solve.box import box_of
    from alignvec.solve.goals import all_goals, parse_goals
    from alignvec.solve.measure import Meter
    from alignvec.solve.report import Solution, rows_of, write_solution
    from alignvec.solve.solver import Solver
    from alignvec.steer.sampling import Sampling
    from alignvec.vectors.store import load_card

    if every == bool(goal):
        raise ConfigError("give either --goal, once for each domain, or --all")
    if budget <= settings:
        raise ConfigError(f"--budget {budget} must be more than --settings {settings}, as the base is measured too")
    places = vector_places(vectors)
    cards = {name: load_card(place) for name, place in places.items()}
    paths = data or [shipped_file(card.domain or name) for name, card in cards.items()]
    rows = [row for path in paths for row in load_rows(path, split=split, limit=limit)]
    domains, levels = tuple(dict.fromkeys(row.domain for row in rows)), tuple(rows[0].responses)
    goals = all_goals(domains, levels) if every else [parse_goals(goal or [], domains, levels, weight or ())]
    box = box_of(cards)
    judge = judge_for(paths[0]) if by == "level" else None
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    described = f"{', '.join(path.name for path in paths)} {split}" + (f", first {limit} each" if limit else "")
    journal = out / "journal.jsonl" if out else None
    meter = Meter(knobbed, box, rows, judge=judge, sampling=sampling, data=described, journal=journal)
    solver = Solver(meter, by)
    with progress() as advance:
        solver.explore(settings, seed, advance)
        solved = solver.solve(goals, rounds=rounds, budget=budget, advance=advance)
    assert solver.measured is not None
    solution = Solution(
        by=by,
        data=described,
        box={axis.name: (axis.low, axis.high) for axis in box.axes},
        levels=levels,
        evaluations=len(solver.measured.points),
        fit=Behaviour(box, solver.measured).surface.fit,
        goals=tuple(solved),
        sampling=sampling.model_dump(),
        provenance=provenance(),
    )
    if out:
        write_solution(solution, out)
    if json:
        print_json(solution)
        return
    columns, lines = rows_of(solution)
    print_table(columns, lines)
    typer.echo(solution.summary())
    for one in solution.goals:
        if one.blocked_by:
            typer.echo(f"{' '.join(one.goal.values())}: {one.blocked_by}")
    if out:
        typer.echo(f"{out}: settings.yaml solve.json journal.jsonl")
