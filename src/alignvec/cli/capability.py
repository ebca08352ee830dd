"""`alignvec capability`: what a knob costs elsewhere, at every λ."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    LimitOption,
    MaxNewTokensOption,
    ModelOption,
    OtherBaseOption,
    SeedOption,
    Split,
    TemperatureOption,
    load_knobbed,
    print_json,
    print_table,
)
from alignvec.progress import progress


def capability(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    coefficients: Annotated[
        str, typer.Option("--lambda", help="values of λ, by commas; the base, 0, is always among them")
    ] = "-1,-0.5,0,0.5,1",
    split: Annotated[Split, typer.Option("--split", help="validation or test, of the questions")] = "test",
    limit: LimitOption = None,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text", help="plain text file for the perplexity; default: the shipped replies to general questions"
        ),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="questions with four choices; default: shipped ones")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option("--instructions", help="instructions with checks; default: shipped ones")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder for JSON, replies, plot and the journal")] = None,
    model: ModelOption = "demo",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Measure what a knob costs in general ability, over λ.

    Perplexity of general text, questions answered and instructions followed, against the base. Killed, the same command
    with --out goes on where it was.
    """
    from alignvec.data.capability import CHOICES, INSTRUCTIONS, Instruction, Question, load_items
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.evaluate.capability import Items, capability_scope, measure_capability
    from alignvec.evaluate.capability_record import Capability
    from alignvec.evaluate.capability_report import tables, write_capability
    from alignvec.evaluate.general_text import replies_as_text, windows_of
    from alignvec.evaluate.journal import Journal
    from alignvec.evaluate.sweep import parse_coefficients
    from alignvec.provenance import provenance
    from alignvec.steer.sampling import Sampling
    from alignvec.vectors.store import load_card

    name = load_card(vector).name
    values = sorted({0.0, *parse_coefficients(coefficients)})
    files = (questions or CHOICES, instructions or INSTRUCTIONS)
    asked = load_items(files[0], Question, split=split, limit=limit)
    told = load_items(files[1], Instruction, split=split, limit=limit)
    knobbed = load_knobbed(model, [vector], dtype=dtype, device=device, allow_other_base=allow_other_base)
    tokenizer, longest = knobbed.base.tokenizer, knobbed.base.context_length
    if text:
        pieces = windows_of(tokenizer, text, max_length=longest, limit=limit)
    else:
        general = shipped_file("general")
        pieces = replies_as_text(tokenizer, load_rows(general, limit=limit), general.name, max_length=longest)
    described = f"{pieces.name}, {', '.join(path.name for path in files)} {split}" + (
        f", first {limit}" if limit else ""
    )
    items = Items(described, pieces, asked, told)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    journal = Journal(out / "journal.jsonl" if out else None, capability_scope(knobbed, [name], sampling, items))
    with progress() as advance:
        curve, replies = measure_capability(
            knobbed, [{name: value} for value in values], items, sampling=sampling, journal=journal, advance=advance
        )
    result = Capability(
        vector=name,
        base=knobbed.base.name,
        data=described,
        text=len(pieces.ids),
        questions=len(asked),
        instructions=len(told),
        sampling=sampling,
        curve=tuple(curve),
        provenance=provenance(),
    )
    if out:
        write_capability(result, replies, out)
    if json:
        print_json(result)
        return
    for table in tables(result):
        print_table(table.columns, table.rows, title=table.title)
    typer.echo("answers: likeliest choice per token; letters: likeliest letter; chance is .25")
    typer.echo(f"measured on {described}")
    if out:
        typer.echo(f"{out}: capability.json capability.png replies.jsonl journal.jsonl")
