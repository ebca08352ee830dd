"""`alignvec data check`: the quality gates over a file of finished rows."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import JsonOption, LimitOption, print_json, print_table
from alignvec.progress import progress


def check(
    rows: Annotated[Path, typer.Argument(help="JSON-lines file in the schema of data/levels")],
    domain: Annotated[
        str | None,
        typer.Option("--domain", help="domain's name or YAML file; default: of the build, or each row's own"),
    ] = None,
    rejected: Annotated[
        Path | None, typer.Option("--rejected", help="file for the faults, one JSON object a line")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="file for the rows without a fault")] = None,
    limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """Count what the quality gates find in preference data.

    It is a report: the exit code is 0 whatever they find.
    """
    from alignvec.data.gates.check import check_rows

    with progress() as advance:
        report = check_rows(rows, domain=domain, rejected=rejected, out=out, limit=limit, advance=advance)
    if json:
        print_json(report)
        return
    print_table(
        ("stage", "gate", "checked", "faults", "example"),
        [
            (count.stage, count.gate, str(count.checked), str(count.faults), count.example or "")
            for count in report.gates
        ],
    )
    leaks = report.leaks
    example = f", such as that of row {leaks.example}" if leaks.example else ""
    typer.echo(f"\n{leaks.faults} of {report.rows} personas leak from one split into another{example}")
    if report.left_out:
        typer.echo(
            f"{report.of_no_domain} of {report.rows} rows are of no known domain and taken for English; "
            f"left out for them: {', '.join(report.left_out)}; name their domain file with --domain"
        )
    typer.echo(f"{report.clean} of {report.rows} rows are without a fault")
    for what, place in (("faults", rejected), ("rows without a fault", out)):
        if place:
            typer.echo(f"{what}: {place}")
