"""`alignvec ask`: one question, several settings side by side."""

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
from alignvec.cli.usable import StrictOption, format_applied, warn_unreached, within_usable

if TYPE_CHECKING:
    from alignvec.steer.knobs import Knobs


def ask(
    question: Annotated[str, typer.Argument(help="what to ask")],
    knob: Annotated[
        list[str] | None,
        typer.Option(
            "--knob",
            help="a setting: legal=-1, or legal=1,medical=0.5, or @FILE#GOAL; repeatable, a reply each; default: base",
        ),
    ] = None,
    model: ModelOption = "demo",
    vectors: VectorsOption = None,
    max_new_tokens: MaxNewTokensOption = 160,
    temperature: TemperatureOption = 0.7,
    router: Annotated[
        Path | None,
        typer.Option("--router", help="folder of a router: each knob counts as far as the question is its domain's"),
    ] = None,
    strict: StrictOption = False,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Answer one question at several settings, in one batch."""
    from alignvec.steer.knobs import check_knobs, parse_knobs, require_finite
    from alignvec.steer.sampling import Sampling

    named = named_scales(vectors)
    asked = [parse_knobs(text, scales=named, router=router is not None) for text in knob or ["base"]]
    warn_unreached(knob or [])
    for setting in asked:
        check_knobs(setting, named)
    settings = [within_usable(setting, named, strict=strict) for setting in asked]
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    probabilities = None
    if router is not None:
        from alignvec.steer.routed import format_probabilities, routed, router_for

        probabilities, settings = routed(router_for(knobbed.base, router), knobbed, (question,), settings)
        still = "" if any(any(setting.values()) for setting in settings) else "; no knob acts on this question"
        typer.echo(f"routed: {format_probabilities(probabilities)}{still}", err=True)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    given = knobbed.continuations([[{"role": "user", "content": question}]] * len(settings), settings, sampling)
    require_finite(settings, [reply.finite for reply in given])
    replies = [reply.text for reply in given]
    if json:
        rows = [{"asked": a, "knobs": s, "reply": r} for a, s, r in zip(asked, settings, replies, strict=True)]
        found = {"question": question, "model": model, "sampling": sampling.model_dump(), "replies": rows}
        print_json(found if probabilities is None else {**found, "routed": probabilities})
        return
    for wanted, setting, reply in zip(asked, settings, replies, strict=True):
        typer.secho(f"── {_head(wanted, setting)} ──", bold=True)
        typer.echo(f"{reply}\n")


def _head(asked: "Knobs", applied: "Knobs") -> str:
    """A setting as it was asked for and, where that differs, as it was applied."""
    from alignvec.steer.knobs import format_knobs

    told, turned = format_knobs(asked), format_applied(applied)
    return told if applied == asked or turned == told else f"{told} → {turned}"
