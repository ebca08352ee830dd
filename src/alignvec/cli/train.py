"""`alignvec train`: from a recipe to a vector."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, print_json


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, such as recipes/medical.yaml")],
    out: Annotated[Path, typer.Option("--out", help="folder for the runs and the vector")],
    model: Annotated[str | None, typer.Option("--model", help="another base model than the recipe's")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="another data file than the recipe's")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="train on the first N rows only")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="another seed than the recipe's")] = None,
    epochs: Annotated[
        float | None, typer.Option("--epochs", help="another number of passes over the rows than the recipe's")
    ] = None,
    loss: Annotated[
        Literal["sigmoid", "ipo", "sft"] | None,
        typer.Option(
            "--loss", help="preference loss instead of the recipe's; sft: none, likelihood of the chosen reply alone"
        ),
    ] = None,
    sft_weight: Annotated[
        float | None,
        typer.Option("--sft-weight", help="weight of the likelihood term beside the preference loss; 0: none"),
    ] = None,
    form: Annotated[
        Literal["hinged", "two-sided", "one-sided"] | None,
        typer.Option("--form", help="how the two runs become one vector; one-sided trains one run only"),
    ] = None,
    full: Annotated[
        bool | None, typer.Option("--full/--lora", help="train all weights, or low-rank factors; default: the recipe's")
    ] = None,
    storage: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option("--storage", help="dtype of the stored vector; default: as trained"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a vector from preference data, by a recipe.

    The sides are trained with DPO, the base is subtracted, and the vector saved to OUT/vector. Killed at any point, the
    same command goes on from the last checkpoint. How much memory it will take is estimated first.
    """
    from alignvec.train.config import load_recipe

    config = load_recipe(
        recipe,
        base=model,
        data=data,
        limit=limit,
        seed=seed,
        epochs=epochs,
        loss=loss,
        sft_weight=sft_weight,
        form=form,
        full=full,
    )
    import torch

    from alignvec.errors import ModelError
    from alignvec.models import DEMO, resolve
    from alignvec.train.memory import recipe_memory
    from alignvec.train.vector import train_vector

    resolve(config.base)
    try:
        memory = recipe_memory(config)
        typer.echo(memory.told(), err=True)
    except (ModelError, OSError, ValueError) as error:  # what is wrong with more than the estimate, training tells
        memory = None
        cause = str(error).strip().split("\n")[0]
        typer.echo(f"memory: not known ({cause})", err=True)
    folder = train_vector(config, out, dtype=getattr(torch, storage) if storage else None)
    if json:
        print_json(
            {
                "vector": str(folder),
                "config": config.model_dump(mode="json"),
                "memory": memory.model_dump(mode="json") if memory else None,
            }
        )
    else:
        other = "" if config.base == DEMO else f" --model {quote(config.base)}"
        typer.echo(
            f"vector: {folder}\ntry it: alignvec ask '...'{other} --vectors {quote(str(folder))} --knob {config.name}=1"
        )
