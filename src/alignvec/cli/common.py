"""Options and output that the commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from alignvec.steer.loading import VECTORS as VECTORS
from alignvec.steer.loading import load_knobbed as load_knobbed
from alignvec.steer.loading import named_scales as named_scales
from alignvec.steer.loading import vector_places as vector_places

Split = Literal["train", "validation", "test"]
ModelOption = Annotated[str, typer.Option("--model", help="base model: demo (the embedded one), a folder, or a hub id")]
VectorsOption = Annotated[
    list[Path] | None,
    typer.Option("--vectors", help="a vector, or a folder of vectors; repeatable; default: the shipped ones"),
]
DtypeOption = Annotated[str, typer.Option("--dtype", help="dtype of the base's weights: float32, bfloat16 or float16")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="torch device; default: CUDA, else the CPU")]
OtherBaseOption = Annotated[
    bool, typer.Option("--allow-other-base", help="apply vectors to a base they were not made for")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="JSON-lines file in the schema of data/levels; default: shipped data")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="use the first N rows only; default: all")]
SeedOption = Annotated[int, typer.Option("--seed", help="seed of all that is drawn at random")]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", min=0.0, help="sampling temperature; 0 is greedy: always the likeliest token")
]
MaxNewTokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="longest reply, in tokens")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON on stdout")]


def data_name(paths: Sequence[Path], split: str, limit: int | None) -> str:
    """What the rows of some files are called in results and journals."""
    return f"{', '.join(path.name for path in paths)} {split}" + (f", first {limit} each" if limit else "")


def print_json(value: Any) -> None:
    """Print a value (pydantic models included) as JSON on stdout."""
    import json

    from pydantic import BaseModel

    typer.echo(value.model_dump_json(indent=1) if isinstance(value, BaseModel) else json.dumps(value, indent=1))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table on stdout; its title stands above it, as wide as it is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    if title:
        typer.echo(title)
    Console().print(table)
