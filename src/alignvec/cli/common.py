"""Options and output that the commands share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from alignvec.steer.model import KnobbedModel
    from alignvec.steer.scale import Scale

VECTORS = Path(__file__).resolve().parents[3] / "vectors"
"""Folder of the vectors that come with the project."""

Split = Literal["train", "validation", "test"]
ModelOption = Annotated[str, typer.Option("--model", help="base model: demo, a folder, or a hub id")]
VectorsOption = Annotated[
    list[Path] | None,
    typer.Option("--vectors", help="a vector, or a folder of vectors; repeatable; default: the shipped ones"),
]
DtypeOption = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="torch device; default: CUDA, else the CPU")]
OtherBaseOption = Annotated[
    bool, typer.Option("--allow-other-base", help="apply vectors to a base they were not made for")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="JSON-lines file in the schema of data/levels; default: shipped data")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="use the first N rows only")]
SeedOption = Annotated[int, typer.Option("--seed", help="seed of sampling")]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy")]
MaxNewTokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="longest reply, in tokens")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON on stdout")]


def load_knobbed(
    model: str,
    vectors: Sequence[Path] | None,
    *,
    dtype: str = "float32",
    device: str | None = None,
    allow_other_base: bool = False,
) -> "KnobbedModel":
    """Load a base model and vectors; cards and tensors are checked before the model is loaded."""
    from alignvec import models
    from alignvec.steer.model import KnobbedModel
    from alignvec.vectors.store import load_vector

    loaded = [load_vector(place) for place in vector_places(vectors).values()]
    return KnobbedModel(models.load(model, dtype=dtype, device=device), loaded, allow_other_base=allow_other_base)


def named_scales(vectors: Sequence[Path] | None) -> "dict[str, Scale]":
    """What every knob's positions mean, read from the cards alone: knobs are checked before anything loads."""
    from alignvec.steer.scale import scale_of
    from alignvec.vectors.store import load_card

    return {name: scale_of(load_card(place)) for name, place in vector_places(vectors).items()}


def vector_places(vectors: Sequence[Path] | None) -> dict[str, Path]:
    """Names and folders of the vectors that were asked for, or of the shipped ones."""
    from alignvec.errors import VectorError
    from alignvec.vectors.store import find_vectors

    places: dict[str, Path] = {}
    for folder in vectors or [VECTORS]:
        found = find_vectors(folder)
        if not found:
            raise VectorError(f"no vectors in {folder} (neither it nor a subfolder has a card.json); check --vectors")
        if both := sorted(places.keys() & found.keys()):
            raise VectorError(f"two vectors are named {both[0]!r}; load one of them, or rename one in its card.json")
        places |= found
    return places


@contextmanager
def progress() -> Iterator[Any]:
    """Yield `advance(task, done, total)` that draws bars on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def advance(task: str, done: int, total: int) -> None:
            if task not in tasks:
                tasks[task] = bar.add_task(task, total=total)
            bar.advance(tasks[task], done)

        yield advance


def print_json(value: Any) -> None:
    """Print a value (pydantic models included) as JSON on stdout."""
    import json

    from pydantic import BaseModel

    typer.echo(value.model_dump_json(indent=1) if isinstance(value, BaseModel) else json.dumps(value, indent=1))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
