"""`alignvec merge`: knobs fixed into a model folder of its own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from alignvec.cli.common import (
    VECTORS,
    JsonOption,
    OtherBaseOption,
    VectorsOption,
    print_json,
    print_table,
    vector_places,
)
from alignvec.cli.usable import StrictOption, warn_unreached, within_usable
from alignvec.progress import progress


def merge(
    out: Annotated[Path, typer.Option("--out", help="folder of the merged model")],
    recipe: Annotated[
        Path | None, typer.Argument(help="merge recipe (YAML); options given beside it replace its values")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="base model: demo, a folder, or a hub id")] = None,
    knob: Annotated[
        list[str] | None,
        typer.Option("--knob", help="a knob such as medical=0.5; repeatable, together one setting; or @FILE#GOAL"),
    ] = None,
    vectors: VectorsOption = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option("--dtype", help="dtype of the result; default: each tensor as in the base"),
    ] = None,
    rounding: Annotated[
        Literal["nearest", "stochastic"] | None,
        typer.Option("--rounding", help="stochastic keeps small changes on average where nearest loses them"),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="how the deltas become one: sum (default), ties, dare or dare-ties")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="seed of stochastic rounding and of dropping (dare); default: 0")
    ] = None,
    strict: StrictOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another merge at --out")] = False,
    allow_other_base: OtherBaseOption = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="tensors at work at once; default: one a core")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write base + Σ λ·Δ as a model that transformers loads.

    A killed merge goes on where it was.
    """
    from alignvec.allocator import keep_freed_blocks
    from alignvec.errors import ConfigError
    from alignvec.merge.recipe import load_merge_recipe, make_merge_recipe
    from alignvec.merge.run import merge as run
    from alignvec.steer.knobs import join_knobs, parse_knobs
    from alignvec.steer.scale import scale_of
    from alignvec.steer.solved import names_setting
    from alignvec.vectors.store import load_card

    places = vector_places(vectors) if vectors or VECTORS.is_dir() else {}
    loaded = load_merge_recipe(recipe) if recipe else None
    own = {name: term.vector for name, term in loaded.knobs.items() if term.vector} if loaded else {}
    named = {name: scale_of(load_card(place)) for name, place in {**places, **own}.items()}
    if loaded and loaded.knobs and any(map(names_setting, knob or [])):
        raise ConfigError(
            f"a solved setting (@FILE#GOAL) is a whole setting, and {recipe} has knobs of its own; leave one out"
        )
    asked = parse_knobs(join_knobs(knob or []), scales=named, router=False)
    knobs = within_usable(asked, named, strict=strict)
    given = {"base": base, "dtype": dtype, "rounding": rounding, "method": method, "seed": seed}
    warn_unreached(knob or [])
    changes = {key: value for key, value in given.items() if value is not None}
    if loaded:
        values = loaded.model_dump()
        terms = {name: {**values["knobs"].get(name, {}), "coefficient": value} for name, value in knobs.items()}
        made = make_merge_recipe(str(recipe), {**values, **changes, "knobs": {**values["knobs"], **terms}})
    else:
        made = make_merge_recipe("merge", {**changes, "knobs": knobs})
    if not made.knobs:
        raise ConfigError("nothing to merge; give a recipe with knobs, or --knob such as --knob medical=0.5")
    keep_freed_blocks()
    with progress() as advance:
        report = run(
            made,
            out,
            vectors=places,
            allow_other_base=allow_other_base,
            overwrite=overwrite,
            workers=workers,
            advance=lambda done, total: advance("merge (MB)", done / 1e6, total / 1e6),
        )
    for warning in report.warnings():
        typer.echo(f"warning: {warning}", err=True)
    if json:
        print_json(report)
        return
    rows = [
        (name, f"{k.coefficient:g}", "-" if k.realised is None else f"{k.realised:.4f}")
        for name, k in report.knobs.items()
    ]
    print_table(["knob", "λ asked for", "λ realised"], rows)
    typer.echo(f"{report.bytes / 1e9:.2f} GB, {report.dtype or 'dtype of the base'}, saved to {out}")
