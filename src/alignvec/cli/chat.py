"""`alignvec chat`: a conversation whose knobs turn while it goes on."""

import sys
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
from alignvec.errors import AlignvecError

if TYPE_CHECKING:
    from alignvec.steer.model import KnobbedModel
    from alignvec.steer.sampling import Sampling

HELP = (
    "/knob medical=0.8 turns a knob, /knob base all back to zero, /knobs shows them, "
    "/reset forgets the conversation, /exit ends it"
)


def chat(
    knob: Annotated[
        list[str] | None, typer.Option("--knob", help="a knob such as medical=0.8; repeatable, all apply at once")
    ] = None,
    model: ModelOption = "demo",
    vectors: VectorsOption = None,
    max_new_tokens: MaxNewTokensOption = 256,
    temperature: TemperatureOption = 0.7,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
) -> None:
    """Chat with the model; knobs can be turned between turns."""
    from alignvec.steer.knobs import check_knobs, merge_knobs, parse_knobs
    from alignvec.steer.sampling import Sampling

    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    named = named_scales(vectors)
    knobs = merge_knobs(parse_knobs(text, scales=named) for text in knob or [])
    check_knobs(knobs, named)
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    typer.echo(HELP, err=True)
    converse(knobbed, knobs, sampling)


def converse(knobbed: "KnobbedModel", knobs: dict[str, float], sampling: "Sampling") -> None:
    """Read lines from stdin until it ends or /exit; replies go to stdout as they are written."""
    from transformers import TextStreamer

    from alignvec.steer.knobs import check_knobs, format_knobs, parse_knobs
    from alignvec.steer.scale import scale_of

    scales = {name: scale_of(vector.card) for name, vector in knobbed.vectors.items()}
    turns: list[dict[str, str]] = []
    while (line := _read(f"[{format_knobs(knobs)}] > ")) is not None:
        command, _, rest = line.partition(" ")
        if command == "/exit":
            return
        try:
            if command == "/knob":
                turned = parse_knobs(rest, scales=scales)
                wanted = {**knobs, **turned} if turned else {}
                check_knobs(wanted, knobbed.vectors)
                knobs = wanted
            elif command == "/knobs":
                typer.echo(f"{format_knobs(knobs)} (loaded: {', '.join(knobbed.vectors)})")
            elif command == "/reset":
                turns = []
            elif command.startswith("/"):
                typer.echo(HELP, err=True)
            elif line:
                streamer: Any = TextStreamer(knobbed.base.tokenizer, skip_prompt=True, skip_special_tokens=True)
                asked = [*turns, {"role": "user", "content": line}]
                reply = knobbed.continue_chats([asked], knobs, sampling, streamer=streamer)[0]
                turns = [*asked, {"role": "assistant", "content": reply}]
        except AlignvecError as error:
            typer.echo(f"error: {error}", err=True)


def _read(prompt: str) -> str | None:
    if sys.stdin.isatty():
        print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None
