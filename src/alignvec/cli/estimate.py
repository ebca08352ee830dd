"""`alignvec estimate`: the memory that training and serving a model take, before anything is loaded."""

from typing import Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, print_json


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
        Literal["float32", "bfloat16", "float16"], typer.Option("--dtype", help="of the weights that are not trained")
    ] = "bfloat16",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="queries in a micro-batch")] = 1,
    length: Annotated[int, typer.Option("--length", min=1, help="tokens of a query with all its replies")] = 1024,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="activations are computed again in the backward pass")
    ] = False,
    vectors: Annotated[int, typer.Option("--vectors", min=0, help="serving: hinged vectors that are loaded")] = 3,
    tokens: Annotated[
        int, typer.Option("--tokens", min=0, help="serving: tokens in the cache, of all requests")
    ] = 8192,
    json: JsonOption = False,
) -> None:
    """Estimate the memory of training, in each process, and of serving, from a model's config alone."""
    from alignvec.memory.serving import serving_memory
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
    if json:
        print_json({"training": training.model_dump(), "serving": serving.model_dump()})
    else:
        typer.echo(f"{training.told()}\n{serving.told()}")
