"""`alignvec data review`: people judge the level of replies, blind, on a local web page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignvec.cli.common import JsonOption, print_json

if TYPE_CHECKING:
    from alignvec.data.review.definitions import Definitions

DomainOption = Annotated[
    str | None,
    typer.Option(
        "--domain",
        help="domain, or its file, whose definitions of the levels reviewers see; default: those of the build in the "
        "rows' folder, else of a domain that comes with the project",
    ),
]


def review(
    rows: Annotated[Path, typer.Argument(help="JSON-lines file of rows whose replies are to be judged")],
    rater: Annotated[
        str | None, typer.Option("--rater", help="who judges; others can give their name on the page")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="ratings file; what is in it is not asked again")] = Path(
        "ratings.jsonl"
    ),
    domain: DomainOption = None,
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="port to listen on")] = 7860,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="judge N replies only, of as many queries")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the choice and the order of replies")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="do not open the page in a browser")] = False,
    json: JsonOption = False,
) -> None:
    """Judge replies on a local web page, blind, one at a time.

    Ctrl+C ends it; the same command goes on.
    """
    from alignvec.data.load import load_rows
    from alignvec.data.review.definitions import definitions
    from alignvec.data.review.queue import ReviewQueue
    from alignvec.data.review.verdicts import Verdicts
    from alignvec.errors import ConfigError

    if rater is not None and not rater.strip():
        raise ConfigError("--rater is empty; give a name, or leave it out and type it on the page")
    loaded = load_rows(rows)
    defined = definitions(rows, loaded, domain)
    queue = ReviewQueue(loaded, Verdicts(out, loaded), seed=seed, limit=limit)
    if host not in ("127.0.0.1", "localhost", "::1"):
        typer.echo(f"warning: anyone who reaches port {port} of {host} can read the replies and rate them", err=True)

    from alignvec.data.review.page import serve

    def ready(address: str) -> None:
        typer.echo(f"{queue.total} replies to judge at {address} (Ctrl+C ends; ratings go to {out})", err=True)
        tell_undefined(defined)

    serve(queue, defined, rater=(rater or "").strip(), host=host, port=port, browser=not no_browser, ready=ready)
    saved = dict(sorted(queue.verdicts.saved.items()))
    if json:
        raters = {name: {"saved": count, "judged": queue.rated(name)} for name, count in saved.items()}
        print_json({"file": str(out), "replies": queue.total, "raters": raters})
        return
    for name, count in saved.items():
        typer.echo(
            f"{name}: {count} rating{'s' * (count != 1)} saved, {queue.rated(name)} of {queue.total} replies judged"
        )
    typer.echo(f"ratings are in {out}" if saved else f"no ratings were saved; {out} is as it was")


def tell_undefined(definitions: "Definitions") -> None:
    """Note on stderr for which domains reviewers get no definitions of the levels."""
    if names := [name for name, levels in definitions.items() if not levels]:
        typer.echo(
            f"note: reviewers get no definitions of the levels of {', '.join(names)}; --domain FILE.yaml gives them",
            err=True,
        )
