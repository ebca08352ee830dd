"""`alignvec ask`: one question, several settings side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxNewTokensOption,
    ModelOption,
    OtherBaseOption,
    SeedOption,
    TemperatureOption,
    VectorsOption,
    load_knobbed,
    named_scales,
    print_json,
)

if TYPE_CHECKING:
    from alignvec.steer.model import KnobbedModel


def ask(
    question: Annotated[str, typer.Argument(help="what to ask")],
    knob: Annotated[
        list[str] | None,
        typer.Option("--knob", help="a setting such as legal=-1 or legal=1,medical=0.5; repeatable; default: base"),
    ] = None,
    model: ModelOption = "demo",
    vectors: VectorsOption = None,
    max_new_tokens: MaxNewTokensOption = 160,
    temperature: TemperatureOption = 0.7,
    router: Annotated[
        Path | None,
        typer.Option("--router", help="folder of a router: each knob counts as far as the question is its domain's"),
    ] = None,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Answer one question under several knob settings, in one batch."""
    from alignvec.steer.knobs import check_knobs, format_knobs, parse_knobs
    from alignvec.steer.sampling import Sampling

    named = named_scales(vectors)
    settings = [parse_knobs(text, scales=named) for text in knob or ["base"]]
    for setting in settings:
        check_knobs(setting, named)
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    if router is not None:
        settings = routed(router, knobbed, question, settings)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    replies = knobbed.generate([question] * len(settings), settings, sampling)
    if json:
        rows = [{"knobs": s, "reply": r} for s, r in zip(settings, replies, strict=True)]
        print_json({"question": question, "model": model, "sampling": sampling.model_dump(), "replies": rows})
        return
    for setting, reply in zip(settings, replies, strict=True):
        typer.secho(f"── {format_knobs(setting)} ──", bold=True)
        typer.echo(f"{reply}\n")


def routed(
    folder: Path, knobbed: "KnobbedModel", question: str, settings: Sequence[Mapping[str, float]]
) -> list[dict[str, float]]:
    """Settings for one question: each knob times the probability that the question is its domain's."""
    from alignvec.steer.router import load_router
    from alignvec.vectors.fingerprint import fingerprint

    router = load_router(folder, fingerprint(knobbed.base.folder))
    found = router.probabilities(knobbed.base, [question])[0]
    probabilities = dict(zip(router.card.domains, map(float, found), strict=True))
    typer.echo(", ".join(f"{name} {p:.2f}" for name, p in probabilities.items()), err=True)
    domains = {name: vector.card.domain or name for name, vector in knobbed.vectors.items()}
    return [router.turn(setting, probabilities, domains) for setting in settings]
