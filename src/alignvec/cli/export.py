"""`alignvec export`: a setting as one adapter file, for engines that have no knobs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from alignvec.cli.common import (
    JsonOption,
    ModelOption,
    OtherBaseOption,
    VectorsOption,
    print_json,
    vector_places,
)
from alignvec.cli.usable import StrictOption, warn_unreached, within_usable


def export(
    knob: Annotated[list[str], typer.Option("--knob", help="a setting such as medical=0.5,legal=-0.3; repeatable")],
    out: Annotated[Path, typer.Option("--out", help="adapter folder (peft) or file (gguf)")],
    format: Annotated[
        Literal["peft", "gguf"], typer.Option("--format", help="peft (also for vLLM), or gguf for llama.cpp")
    ] = "peft",
    vectors: VectorsOption = None,
    model: ModelOption = "demo",
    rank: Annotated[
        int | None, typer.Option("--rank", min=1, help="largest rank; default: what the exact sum needs")
    ] = None,
    dtype: Annotated[Literal["float32", "float16"], typer.Option("--dtype", help="dtype of the factors")] = "float32",
    strict: StrictOption = False,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Write Σ λ·Δ as one LoRA adapter, which an engine applies at scale 1."""
    from alignvec.steer.knobs import check_knobs, format_knobs, join_knobs, parse_knobs
    from alignvec.steer.scale import scale_of
    from alignvec.vectors.store import load_card

    places = vector_places(vectors)
    named = {name: scale_of(load_card(place)) for name, place in places.items()}
    knobs = parse_knobs(join_knobs(knob), scales=named, router=False)
    warn_unreached(knob)
    check_knobs(knobs, named)
    knobs = within_usable(knobs, named, strict=strict)

    import torch

    from alignvec.merge.export import composition, export_peft
    from alignvec.models import resolve
    from alignvec.vectors.store import load_vector

    loaded = [load_vector(places[name]) for name in knobs]
    composed = composition(
        loaded, knobs, model, rank=rank, dtype=getattr(torch, dtype), allow_other_base=allow_other_base
    )
    if format == "gguf":
        from alignvec.merge.gguf import export_gguf

        export_gguf(composed, out)
    else:
        export_peft(composed, out)
    if json:
        print_json(composed.report)
        return
    report = composed.report
    ranks = ", ".join(f"{count} of rank {rank}" for rank, count in report.ranks.items())
    error = f"relative error {report.relative_error:.1e}" if report.relative_error else "exact"
    typer.echo(f"{format_knobs(knobs)}: {report.tensors} tensors ({ranks}), {dtype}, {error}, saved to {out}")
    typer.echo(f"apply it at scale 1 to the base in {resolve(model)}")
