"""`alignvec level-rates`: what was said at every setting of a run of `alignvec generate`."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, print_json, print_table
from alignvec.progress import progress


def level_rates(
    run: Annotated[Path, typer.Argument(help="folder that alignvec generate has written")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="rows that the judge learns levels from; repeatable; default: shipped data"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tell the levels of replies that `generate` has written.

    The classifier judges them shard by shard; rates and picture go into RUN/rates.json and RUN/rates.png.
    """
    from alignvec.data.load import shipped_file
    from alignvec.evaluate.bulk.plan import read_plan
    from alignvec.evaluate.bulk.rates import bulk_rates
    from alignvec.evaluate.bulk.rates_report import tables, write_rates
    from alignvec.evaluate.judge import judge_for

    plan = read_plan(run)
    judge = judge_for(*(data or [shipped_file("medical")]))  # of shipped data all domains count
    with progress(rate=True) as advance:
        result = bulk_rates(run, judge, advance=lambda n: advance("judging", n, plan.replies))
    write_rates(result, run)
    if json:
        print_json(result)
        return
    for table in tables(result):
        print_table(table.columns, table.rows, title=table.title)
        typer.echo()
    typer.echo("brackets: 95 % intervals, personas resampled; broken: empty or looping")
    typer.echo(result.judge.summary())
    if result.missing:
        typer.echo(f"{result.missing:,} of {result.plan.replies:,} replies are missing; `alignvec generate` goes on")
    for note in result.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{run}: rates.json rates.png")
