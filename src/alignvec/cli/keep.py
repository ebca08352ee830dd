"""`alignvec keep`: the base's own replies outside a vector's domain, to train against spillover."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxNewTokensOption,
    ModelOption,
    SeedOption,
    TemperatureOption,
    load_knobbed,
    print_json,
)
from alignvec.progress import progress


def keep(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    out: Annotated[Path, typer.Option("--out", help="JSON-lines file of keep rows; a journal stands beside it")],
    queries: Annotated[
        list[Path] | None,
        typer.Option(
            "--queries",
            help="JSON-lines file of queries; repeatable; default: the other domains' shipped data, and prompts "
            "outside all",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="use the first N queries of each file")] = None,
    model: ModelOption = "demo",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Write replies that a knob should leave as they are.

    Queries outside the vector's domain are replied to without the knob and at both ends, for a recipe's `keep`. Killed
    at any point, the same command goes on where it was.
    """
    from alignvec.data.load import shipped_file
    from alignvec.solve.routing import SHIPPED
    from alignvec.steer.sampling import Sampling
    from alignvec.train.keep import keep_rows, queries_outside, save_keep
    from alignvec.vectors.store import load_card

    card = load_card(vector)
    domain = card.domain or card.name
    others = [shipped_file(name) for name in ("medical", "legal", "financial") if name != domain]
    asked = queries_outside(queries or [*others, SHIPPED / "outside.jsonl"], domain, limit=limit)
    knobbed = load_knobbed(model, [vector], dtype=dtype, device=device)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    with progress() as advance:
        rows = keep_rows(
            knobbed,
            card.name,
            asked,
            sampling,
            journal=out.with_name(f"{out.name}.journal"),
            advance=lambda n: advance("generating", n, 3 * len(asked)),
        )
    save_keep(out, card, rows)
    changed = {side: sum(getattr(row, side) != row.base for row in rows) for side in ("positive", "negative")}
    if json:
        print_json({"out": str(out), "domain": domain, "queries": len(rows), "changed": changed})
    else:
        typer.echo(
            f"{out}: {len(rows)} queries outside {domain}; replies change at λ = 1 for {changed['positive']}, "
            f"at λ = -1 for {changed['negative']}"
        )
