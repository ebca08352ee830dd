"""`alignvec compare`: how alike vectors are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignvec.cli.common import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from alignvec.vectors.compare import Comparison

_COLUMNS = 7
"""Cosines that fit beside a name in 80 columns."""


def compare(
    vectors: Annotated[list[Path], typer.Argument(help="folders of vectors, or folders that hold some")],
    out: Annotated[Path, typer.Option("--out", help="picture (PNG)")] = Path("out/compare.png"),
    allow_other_base: Annotated[
        bool, typer.Option("--allow-other-base", help="compare vectors for different bases")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare vectors: norms and cosines, in all and by layer.

    Prints a table and draws a picture; a hinged vector has a row for each side.
    """
    from alignvec.errors import ConfigError, VectorError
    from alignvec.vectors.compare import compare as run
    from alignvec.vectors.compare_plot import plot_comparison
    from alignvec.vectors.store import find_vectors, load_vector

    if out.suffix.lower() != ".png":
        raise ConfigError(f"the picture is a PNG, but --out is {out}; give it a name that ends in .png")
    places: list[Path] = []
    for folder in vectors:
        found = find_vectors(folder)
        if not found:
            raise VectorError(f"no vectors in {folder} (neither it nor a subfolder has a card.json); check the path")
        places += found.values()
    comparison = run([load_vector(place, lazy=True) for place in places], allow_other_base=allow_other_base)
    plot_comparison(comparison, out)
    if json:
        print_json(comparison)
    else:
        _show(comparison)
        typer.echo(f"picture, by layer: {out}")


def _show(comparison: "Comparison") -> None:
    total, numbers = comparison.total, [str(i + 1) for i in range(len(comparison.labels))]
    names = [f"{number} {label}" for number, label in zip(numbers, comparison.labels, strict=True)]
    for start in range(0, len(names), _COLUMNS):
        shown = slice(start, start + _COLUMNS)
        rows = [
            [name, f"{norm:.4g}", *("-" if value is None else f"{value:.2f}" for value in cosines[shown])]
            for name, norm, cosines in zip(names, total.norms, total.cosines, strict=True)
        ]
        print_table(["vector", "norm", *numbers[shown]], rows, title="" if start else "cosines in all")
