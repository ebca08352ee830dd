"""`alignvec reproduce`: the paper's tables and figures, and what goes beyond them, as one command."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json, print_table
from alignvec.progress import progress


def reproduce(
    scale: Annotated[
        str, typer.Option("--scale", help="tiny (random weights), small (the demo model), paper, or a YAML file")
    ] = "small",
    out: Annotated[Path | None, typer.Option("--out", help="folder; default: out/reproduce-SCALE")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="this stage and those it needs; repeatable; default: all"),
    ] = None,
    again: Annotated[
        list[str] | None, typer.Option("--again", help="measure this stage anew, and those made from it; repeatable")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="begin with nothing, not with the results that come with the project")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="measure at most so many queries a domain, and items")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="seed of training and sampling")] = None,
    plan: Annotated[
        bool, typer.Option("--dry-run", help="list the stages and what each needs; measure nothing")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure the paper's tables and figures, as one report.

    Stage by stage. Killed, the same command goes on where it was.
    """
    from alignvec.reproduce.run import SHIPPED, planned
    from alignvec.reproduce.run import reproduce as run
    from alignvec.reproduce.scale import load_scale

    found = load_scale(scale)
    found = found.limited(limit).model_copy(update={} if seed is None else {"seed": seed})
    folder = out or Path("out") / f"reproduce-{Path(scale).stem}"
    if plan:
        steps = planned(found, folder, only=stage or (), again=again or (), shipped=None if fresh else SHIPPED)
        if json:
            print_json([step.model_dump() for step in steps])
        else:
            print_table(("stage", "state", "what"), [(one.name, one.state, one.title) for one in steps])
        return
    with progress() as advance:
        done = run(
            found, folder, only=stage or (), again=again or (), shipped=None if fresh else SHIPPED, advance=advance,
            tell=lambda line: typer.echo(line, err=True),
        )  # fmt: skip
    if json:
        print_json({name: one.model_dump(mode="json") for name, one in done.items()})
        return
    print_table(
        ("stage", "seconds", "finished", "commit"),
        [(name, f"{one.seconds:.0f}", one.finished, one.provenance.commit or "unknown") for name, one in done.items()],
    )
    typer.echo(f"{folder}: report.html data figures")
