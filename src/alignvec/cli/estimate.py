"""`alignvec estimate`: the memory that training and serving a model take, before anything is loaded."""

from typing import Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, print_json, print_table


def estimate(
    model: Annotated[
        str,
        typer.Option("--model", help="a folder with config.json, a hub id, demo, or a known shape: llama-3-8b, ..."),
    ] = "demo",
    processes: Annotated[int, typer.Option("--processes", min=1, help="number of processes (GPUs)")] = 1,
    strategy: Annotated[
        Literal["ddp", "fsdp", "zero3"], typer.Option("--strategy", help="how processes share the model")
    ] = "ddp",
    rank: Annotated[int, typer.Option("--rank", min=1, help="rank of the factors that are trained")] = 8,
    full: Annotated[bool, typer.Option("--full", help="train all weights, in float32")] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option("--dtype", help="dtype of the weights that are not trained"),
    ] = "bfloat16",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="queries in a micro-batch")] = 1,
    length: Annotated[int, typer.Option("--length", min=1, help="tokens of a query with all its replies")] = 1024,
    checkpointing: Annotated[
        bool,
        typer.Option(
            "--checkpointing", help="training: activations computed again in the backward pass, as only FSDP configs do"
        ),
    ] = False,
    vectors: Annotated[int, typer.Option("--vectors", min=0, help="serving: hinged vectors that are loaded")] = 3,
    tokens: Annotated[
        int, typer.Option("--tokens", min=0, help="serving: tokens in the cache, of all requests")
    ] = 8192,
    settings: Annotated[
        str,
        typer.Option(
            "--settings", help="serving: numbers of different settings to hold, such as 1,10,10000; default: none"
        ),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Estimate the memory of training and of serving.

    From a model's config alone; of training, for each process.
    """
    counts = _counts(settings)
    from alignvec.memory.serving import serving_memory
    from alignvec.memory.settings import COLUMNS, held_settings
    from alignvec.memory.shape import shape_of
    from alignvec.memory.training import training_memory

    shape = shape_of(model)
    training = training_memory(
        shape,
        strategy=strategy if processes > 1 else "single",
        processes=processes,
        rank=None if full else rank,
        dtype="float32" if full else dtype,
        batch_size=batch_size,
        length=length,
        checkpointing=checkpointing,
    )
    serving = serving_memory(shape, vectors=vectors, rank=rank, dtype=dtype, tokens=tokens)
    many = held_settings(shape, counts, vectors=vectors, rank=rank, dtype=dtype)
    if json:
        found = {"training": training.model_dump(), "serving": serving.model_dump()}
        print_json(found | ({"settings": [one.model_dump() for one in many]} if many else {}))
        return
    typer.echo(f"{training.told()}\n{serving.told()}")
    if many:
        print_table(COLUMNS, [one.told() for one in many], title=f"{vectors} hinged vectors of rank {rank}, {dtype}")


def _counts(text: str) -> list[int]:
    from alignvec.errors import ConfigError

    try:
        counts = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        counts = [0]
    if any(count < 1 for count in counts):
        raise ConfigError(f"--settings {text!r} must be whole numbers above 0; write them like 1,10,10000")
    return counts
