"""`alignvec bench-serve`: open-loop load on a server, with a mix of settings."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import DataOption, JsonOption, LimitOption, SeedOption, print_table


def bench_serve(
    url: Annotated[str, typer.Option("--url", help="base URL of the server")] = "http://127.0.0.1:8000/v1",
    rate: Annotated[float, typer.Option("--rate", help="requests per second, on average (Poisson)")] = 2.0,
    requests: Annotated[int, typer.Option("--requests", min=1, help="how many to send")] = 100,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--settings", help="knobs such as medical=expert,legal=0.5; repeatable, taken in turn; default: base"
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="longest reply, in tokens")] = 64,
    seed: SeedOption = 0,
    patience: Annotated[float, typer.Option("--patience", min=0.1, help="seconds a request may take")] = 300.0,
    first_token_goal: Annotated[
        float,
        typer.Option(
            "--first-token-goal", help="seconds to the first token within which a request counts as good (goodput)"
        ),
    ] = 2.0,
    per_token_goal: Annotated[
        float, typer.Option("--per-token-goal", help="seconds a further token may take in a good request")
    ] = 0.2,
    data: DataOption = None,
    limit: LimitOption = None,
    key_env: Annotated[
        str, typer.Option("--key-env", help="environment variable that holds the API key")
    ] = "ALIGNVEC_API_KEY",
    plot: Annotated[Path | None, typer.Option("--plot", help="draw the result (PNG)")] = None,
    json: JsonOption = False,
) -> None:
    """Load a server, and measure how long users wait.

    Requests come at random times and do not wait for each other.
    """
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.serve.load.bench import LoadSettings, bench
    from alignvec.serve.load.summary import Goals

    rows = load_rows(data or shipped_file("medical"), limit=limit)
    wanted = LoadSettings(
        url=url,
        rate=rate,
        requests=requests,
        settings=tuple(settings or ["base"]),
        max_tokens=max_tokens,
        seed=seed,
        patience=patience,
        goals=Goals(first_token=first_token_goal, per_token=per_token_goal),
    )
    report = bench(wanted, [row.query for row in rows], key_variable=key_env, plot=plot)
    if json:
        typer.echo(report.model_dump_json())
        return
    found = report.summary
    waits = (("first token", found.first_token), ("per token", found.per_token), ("between pieces", found.between))
    print_table(
        ("seconds", "p50", "p95", "p99"),
        [(name, *(f"{x:.3f}" for x in (w.p50, w.p95, w.p99))) if w else (name, "–", "–", "–") for name, w in waits],
    )
    typer.echo(f"requests: {', '.join(f'{n} {kind}' for kind, n in found.kinds.items())} in {found.seconds:.1f} s")
    typer.echo(f"statuses: {', '.join(f'{status}: {n}' for status, n in found.statuses.items())}")
    typer.echo(
        f"answered: {found.requests_per_s:.2f} requests/s, {found.goodput_per_s:.2f}/s within the goals, "
        f"{found.tokens_per_s:.1f} tokens/s; the client was at most {found.largest_lag:.3f} s late"
    )
