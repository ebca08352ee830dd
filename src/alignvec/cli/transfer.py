"""`alignvec transfer`: how much of its effect a vector keeps at another fine-tuning stage."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    LimitOption,
    MaxNewTokensOption,
    SeedOption,
    Split,
    TemperatureOption,
    data_name,
    print_json,
    print_table,
)
from alignvec.progress import progress


def transfer(
    model: Annotated[str, typer.Option("--model", help="the stage: demo, a folder, or a hub id")],
    native: Annotated[Path, typer.Option("--native", help="folder of a vector that was trained on this stage")],
    foreign: Annotated[Path, typer.Option("--foreign", help="folder of its like from another stage")],
    coefficients: Annotated[str, typer.Option("--lambda", help="values of λ, by commas")] = "-1,-0.5,0.5,1",
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="JSON-lines file; repeatable; default: shipped data of the native vector's domain"),
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "test",
    limit: LimitOption = None,
    generate: Annotated[
        int | None, typer.Option("--generate", min=0, help="reply to the first N queries only; default: all; 0: none")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder for JSON, plot and the journal")] = None,
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Measure what a vector of another stage still does here.

    A vector of this stage and its like from another are turned over λ; tells the share of the effect that is kept.
    Killed, the same command with --out goes on where it was.
    """
    from alignvec import models
    from alignvec.data.load import load_files, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.evaluate.judge import judge_for
    from alignvec.evaluate.sweep import parse_coefficients
    from alignvec.evaluate.transfer import knobbed_pair, measure_transfer
    from alignvec.evaluate.transfer_report import summary, tables
    from alignvec.steer.sampling import Sampling
    from alignvec.vectors.store import load_vector

    values = parse_coefficients(coefficients)
    if not any(values):
        raise ConfigError("--lambda names 0 alone, where no knob is turned; give other values")
    pair = [load_vector(native), load_vector(foreign)]
    card = pair[0].card
    paths = data or [shipped_file(card.domain or card.name)]
    rows = load_files(paths, split=split, limit=limit)
    judge = None if generate == 0 else judge_for(*paths)
    knobbed = knobbed_pair(models.load(model, dtype=dtype, device=device), *pair)
    with progress() as advance:
        result = measure_transfer(
            knobbed,
            rows,
            name=card.name,
            data=data_name(paths, split, limit),
            coefficients=values,
            judge=judge,
            generate=generate,
            sampling=Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed),
            out=out,
            advance=advance,
        )
    if json:
        print_json(result)
        return
    for table in tables(result):
        print_table(table.columns, table.rows, title=table.title)
    typer.echo(summary(result))
    if result.judge:
        typer.echo(result.judge.summary())
    if out:
        typer.echo(f"{out}: transfer.json transfer.png journal.jsonl")
