"""`alignvec sweep`: turn one knob over a range of λ and measure."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignvec.cli.common import (
    DataOption,
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
    load_knobbed,
    print_json,
    print_table,
)
from alignvec.progress import progress

if TYPE_CHECKING:
    from alignvec.evaluate.sweep_record import SweepResult


def sweep(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    coefficients: Annotated[str, typer.Option("--lambda", help="values of λ, by commas")] = "-1,-0.5,0,0.5,1",
    data: DataOption = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "test",
    limit: LimitOption = None,
    generate: Annotated[
        int | None, typer.Option("--generate", min=0, help="reply to the first N queries only; default: all; 0: none")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for JSON, CSV, replies, plot and the journal")
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="keep the curve in the vector's card")] = False,
    model: ModelOption = "demo",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Measure one knob over λ, on held-out queries.

    Preference rates and margins of the reference replies, and level rates of generated ones.
    """
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.evaluate.judge import judge_for
    from alignvec.evaluate.sweep import parse_coefficients
    from alignvec.evaluate.sweep import sweep as run
    from alignvec.steer.sampling import Sampling
    from alignvec.vectors.store import load_card, reload_card, save_card

    if card and allow_other_base:
        raise ConfigError("--card keeps what was measured on the vector's own base; leave out --allow-other-base")
    described = load_card(vector)
    path = data or shipped_file(described.domain or described.name)
    rows = load_rows(path, split=split, limit=limit)
    values = parse_coefficients(coefficients)
    judge = None if generate == 0 else judge_for(path)
    knobbed = load_knobbed(model, [vector], dtype=dtype, device=device, allow_other_base=allow_other_base)
    with progress() as advance:
        result = run(
            knobbed,
            described.name,
            rows,
            data=f"{path.name} {split}",
            coefficients=values,
            judge=judge,
            generate=generate,
            sampling=Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed),
            out=out,
            advance=advance,
        )
    if json:
        print_json(result)
    else:
        show_sweep(result, out)
    if card:  # at the end: a card that cannot keep it must not hide it
        save_card(vector, reload_card(vector, described).model_copy(update={"measured": result.measurement()}))


def show_sweep(result: "SweepResult", out: Path | None) -> None:
    """Print the curve as a table, the judge's accuracy under it, and where the files are."""
    from alignvec.evaluate.sweep_report import tables

    for table in tables(result):
        print_table(table.columns, table.rows, title=table.title)
    if result.judge:
        typer.echo(result.judge.summary())
        typer.echo(result.judge.confusion_text())
    if out:
        typer.echo(f"{out}: sweep.json sweep.csv sweep.png replies.jsonl replies.md")
