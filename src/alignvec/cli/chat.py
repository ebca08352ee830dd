"""`alignvec chat`: a conversation whose knobs turn while it goes on."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    MaxNewTokensOption,
    ModelOption,
    OtherBaseOption,
    SeedOption,
    TemperatureOption,
    VectorsOption,
    load_knobbed,
    named_scales,
)
from alignvec.cli.usable import StrictOption, format_applied, warn_unreached, within_usable
from alignvec.errors import AlignvecError

if TYPE_CHECKING:
    from alignvec.steer.model import KnobbedModel
    from alignvec.steer.router import Router
    from alignvec.steer.sampling import Sampling

HELP = (
    "/knob medical=0.8 turns a knob, /knob @FILE#GOAL all of them, /knob base all back to zero, /knobs shows them, "
    "/reset forgets the conversation, /exit ends it"
)


def chat(
    knob: Annotated[
        list[str] | None,
        typer.Option(
            "--knob",
            help="a knob such as medical=0.8; repeatable, together one setting; or @FILE#GOAL; default: base",
        ),
    ] = None,
    model: ModelOption = "demo",
    vectors: VectorsOption = None,
    max_new_tokens: MaxNewTokensOption = 256,
    temperature: TemperatureOption = 0.7,
    router: Annotated[
        Path | None,
        typer.Option("--router", help="folder of a router: each knob counts as far as the talk is its domain's"),
    ] = None,
    strict: StrictOption = False,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
) -> None:
    """Chat with the model; knobs can be turned between turns."""
    from alignvec.steer.knobs import check_knobs, join_knobs, parse_knobs
    from alignvec.steer.sampling import Sampling

    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    named = named_scales(vectors)
    knobs = parse_knobs(join_knobs(knob or []), scales=named, router=router is not None)
    warn_unreached(knob or [])
    check_knobs(knobs, named)
    knobs = within_usable(knobs, named, strict=strict)
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    found = None
    if router is not None:
        from alignvec.steer.routed import router_for

        found = router_for(knobbed.base, router)
    typer.echo(HELP, err=True)
    converse(knobbed, knobs, sampling, found, strict=strict)


def converse(
    knobbed: "KnobbedModel", knobs: dict[str, float], sampling: "Sampling", router: "Router | None", *, strict: bool
) -> None:
    """Read lines from stdin until it ends or /exit; replies go to stdout as they are written."""
    from transformers import TextStreamer

    from alignvec.steer.knobs import check_knobs, format_knobs, parse_knobs, require_finite
    from alignvec.steer.scale import scale_of
    from alignvec.steer.solved import names_setting

    scales = {name: scale_of(vector.card) for name, vector in knobbed.vectors.items()}
    turns: list[dict[str, str]] = []
    while (line := _read(f"[{format_knobs(knobs)}] > ")) is not None:
        command, _, rest = line.partition(" ")
        if command == "/exit":
            return
        try:
            if command == "/knobs" or (command == "/knob" and not rest.strip()):
                typer.echo(f"{format_knobs(knobs)} (loaded: {', '.join(knobbed.vectors)})")
            elif command == "/knob":
                turned = parse_knobs(rest, scales=scales, router=router is not None)
                wanted = turned if names_setting(rest) or not turned else {**knobs, **turned}
                check_knobs(wanted, knobbed.vectors)
                warn_unreached([rest])
                knobs = within_usable(wanted, scales, strict=strict)
                typer.echo(f"knobs: {format_knobs(knobs)}", err=True)
            elif command == "/reset":
                turns = []
                typer.echo("the conversation is forgotten; the knobs stay", err=True)
            elif command.startswith("/"):
                typer.echo(HELP, err=True)
            elif line:
                streamer: Any = TextStreamer(knobbed.base.tokenizer, skip_prompt=True, skip_special_tokens=True)
                asked = [*turns, {"role": "user", "content": line}]
                applied = knobs if router is None else _routed(router, knobbed, asked, knobs)
                reply = knobbed.continuations([asked], applied, sampling, streamer=streamer)[0]
                require_finite([applied], [reply.finite])
                turns = [*asked, {"role": "assistant", "content": reply.text}]
        except AlignvecError as error:
            typer.echo(f"error: {error}", err=True)


def _routed(
    router: "Router", knobbed: "KnobbedModel", chat: list[dict[str, str]], knobs: dict[str, float]
) -> dict[str, float]:
    from alignvec.steer.routed import format_probabilities, routed, user_turns

    probabilities, (applied,) = routed(router, knobbed, user_turns(chat), [knobs])
    typer.echo(f"routed: {format_probabilities(probabilities)}; applied: {format_applied(applied)}", err=True)
    return applied


def _read(prompt: str) -> str | None:
    if sys.stdin.isatty():
        print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None
