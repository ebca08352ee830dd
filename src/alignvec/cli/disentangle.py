"""`alignvec disentangle`: vectors less a share of what they have in common."""

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, print_json, print_table, vector_places

if TYPE_CHECKING:
    from alignvec.vectors.compare import Comparison


def disentangle(
    vectors: Annotated[list[Path], typer.Argument(help="folders of vectors, or folders that hold some")],
    out: Annotated[Path, typer.Option("--out", help="folder for the vectors, each under its name")],
    strength: Annotated[
        float, typer.Option("--strength", help="share of the common part that is taken away, 0 to 1")
    ] = 0.5,
    by: Annotated[
        Literal["mean", "singular"],
        typer.Option("--by", help="common part: along the vectors' mean, or their first singular direction"),
    ] = "mean",
    per_tensor: Annotated[
        bool, typer.Option("--per-tensor", help="a direction for each tensor instead of one for the whole model")
    ] = False,
    rank: Annotated[
        int | None, typer.Option("--rank", min=1, help="rank of low-rank results; default: each vector's own")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take out of vectors a share of what all have in common.

    Of hinged vectors, each side with the others' same sides.
    """
    from alignvec.errors import ConfigError
    from alignvec.vectors.compare import compare
    from alignvec.vectors.disentangle import disentangle as run
    from alignvec.vectors.store import load_vector, require_free, save_vector

    places = vector_places(vectors)
    for name, place in places.items():
        if (out / name).resolve() == place.resolve():
            raise ConfigError(f"{out / name} is the vector itself, which would be replaced; choose another --out")
        require_free(out / name)
    loaded = [load_vector(place, lazy=True) for place in places.values()]
    made = run(loaded, strength, by=by, per_tensor=per_tensor, rank=rank)
    before, after = compare(loaded), compare(made)
    for vector in made:
        save_vector(vector, out / vector.name)
    lost = {vector.name: vector.card.error["rank_cut"] for vector in made if "rank_cut" in vector.card.error}
    if json:
        print_json(
            {
                "vectors": [str(out / vector.name) for vector in made],
                "before": before.model_dump(),
                "after": after.model_dump(),
                "rank_cut": lost,
            }
        )
        return
    _show(before, after)
    for name, share in lost.items():
        typer.echo(f"{name}: cut to its rank, which leaves an error of {share:.3f} of its norm")
    typer.echo(f"{out}: {' '.join(vector.name for vector in made)}")


def _show(before: "Comparison", after: "Comparison") -> None:
    norms = [
        (label, f"{old:.4g}", f"{new:.4g}")
        for label, old, new in zip(before.labels, before.total.norms, after.total.norms, strict=True)
    ]
    print_table(("vector", "norm before", "after"), norms)
    cosines = [
        (f"{first}  {second}", _cosine(before, i, j), _cosine(after, i, j))
        for (i, first), (j, second) in combinations(enumerate(before.labels), 2)
    ]
    print_table(("pair", "cosine before", "after"), cosines)


def _cosine(comparison: "Comparison", i: int, j: int) -> str:
    value = comparison.total.cosines[i][j]
    return "-" if value is None else f"{value:.2f}"
