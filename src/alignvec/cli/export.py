"""`alignvec export`: a setting as one adapter file, or the knobs themselves as adapters, for other engines."""

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
    out: Annotated[Path, typer.Option("--out", help="adapter folder (peft, or --knobs) or file (gguf)")],
    knob: Annotated[
        list[str] | None,
        typer.Option(
            "--knob", help="a knob or several, such as medical=0.5,legal=-0.3; repeatable, together one setting"
        ),
    ] = None,
    knobs: Annotated[
        bool,
        typer.Option(
            "--knobs", help="gguf: every vector as adapters that llama-server scales per request, instead of --knob"
        ),
    ] = False,
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
    """Write a setting as one LoRA adapter for other engines.

    The adapter is Σ λ·Δ, which an engine applies at scale 1. With --knobs, all vectors become adapters that llama.cpp's
    server scales per request.
    """
    from alignvec.errors import ConfigError
    from alignvec.steer.knobs import check_knobs, format_knobs, join_knobs, parse_knobs
    from alignvec.steer.scale import scale_of
    from alignvec.vectors.store import load_card

    if knobs:
        if knob or format != "gguf":
            raise ConfigError("--knobs exports all knobs for llama.cpp: give --format gguf with it, and no --knob")
        _export_knobs(out, vectors, model, rank, dtype, allow_other_base, json)
        return
    if not knob:
        raise ConfigError("nothing to export: give a setting (--knob medical=0.5), or --format gguf --knobs")
    places = vector_places(vectors)
    named = {name: scale_of(load_card(place)) for name, place in places.items()}
    setting = parse_knobs(join_knobs(knob), scales=named, router=False)
    warn_unreached(knob)
    check_knobs(setting, named)
    setting = within_usable(setting, named, strict=strict)

    import torch

    from alignvec.merge.export import composition, export_peft
    from alignvec.models import resolve
    from alignvec.vectors.store import load_vector

    loaded = [load_vector(places[name]) for name in setting]
    composed = composition(
        loaded, setting, model, rank=rank, dtype=getattr(torch, dtype), allow_other_base=allow_other_base
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
    typer.echo(f"{format_knobs(setting)}: {report.tensors} tensors ({ranks}), {dtype}, {error}, saved to {out}")
    typer.echo(f"apply it at scale 1 to the base in {resolve(model)}")


def _export_knobs(
    out: Path,
    vectors: list[Path] | None,
    model: str,
    rank: int | None,
    dtype: str,
    allow_other_base: bool,
    json: bool,
) -> None:
    import shlex

    import torch

    from alignvec.engines.llamacpp.adapters import export_knobs
    from alignvec.engines.llamacpp.request import server_options
    from alignvec.vectors.store import load_vector

    loaded = [load_vector(place) for place in vector_places(vectors).values()]
    manifest = export_knobs(
        loaded, model, out, rank=rank, dtype=getattr(torch, dtype), allow_other_base=allow_other_base
    )
    if json:
        print_json(manifest)
        return
    for number, adapter in enumerate(manifest.adapters):
        side = {0: "", 1: " above 0", -1: " below 0"}[adapter.sign]
        typer.echo(f"adapter {number}: {adapter.knob}{side}, {adapter.file}")
    typer.echo(f"start:   llama-server -m BASE.gguf {shlex.join(server_options(manifest, out))}")
    typer.echo(
        f"request: alignvec llama-request --adapters {shlex.quote(str(out))} --knob {next(iter(manifest.knobs))}=1"
    )
