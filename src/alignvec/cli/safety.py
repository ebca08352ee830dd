"""`alignvec safety`: who is refused while knobs turn."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxNewTokensOption,
    ModelOption,
    OtherBaseOption,
    SeedOption,
    Split,
    TemperatureOption,
    load_knobbed,
    named_scales,
    print_json,
    print_table,
)
from alignvec.progress import progress


def safety(
    vectors: Annotated[list[Path], typer.Argument(help="folders of vectors, each turned alone")],
    coefficients: Annotated[
        str, typer.Option("--lambda", help="values of λ, by commas; the base, 0, is always among them")
    ] = "-1,-0.5,0,0.5,1",
    knob: Annotated[
        list[str] | None,
        typer.Option("--knob", help="a whole setting such as medical=1,safety=-0.5, instead of --lambda; repeatable"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="safety rows, or harmful queries as imported; default: shipped rows")
    ] = None,
    benign: Annotated[
        Path | None, typer.Option("--benign", help="benign queries as imported, for over-refusal")
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "test",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="use the first N rows of each kind only; default: all")
    ] = None,
    generate: Annotated[
        int | None, typer.Option("--generate", min=0, help="reply to the first N of each kind only; default: all")
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", help="also reply to this shipped domain, or file of rows; repeatable"),
    ] = None,
    judge: Annotated[
        Path | None, typer.Option("--judge", help="safety rows to train the refusal judge on; default: shipped rows")
    ] = None,
    router: Annotated[
        Path | None, typer.Option("--router", help="folder of a router: each knob counts on its domain's queries")
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
    """Measure who is refused while a knob turns.

    Harmful requests, and benign ones that look like them. Killed, the same command with --out goes on where it was.
    """
    from alignvec.data.load import load_files, shipped_file
    from alignvec.data.safety import SAFETY, load_safety
    from alignvec.evaluate.judge import judge_for
    from alignvec.evaluate.refusal import refusal_judge
    from alignvec.evaluate.safety import assess_safety
    from alignvec.evaluate.safety_report import tables
    from alignvec.evaluate.sweep import parse_coefficients
    from alignvec.steer.knobs import Knobs, check_knobs, parse_knobs
    from alignvec.steer.routed import router_for
    from alignvec.steer.sampling import Sampling

    scales = named_scales(vectors)
    settings: list[Knobs] = [{}]
    if knob:
        settings += [
            setting for text in knob if (setting := parse_knobs(text, scales=scales, router=router is not None))
        ]
    else:
        values = [value for value in parse_coefficients(coefficients) if value]
        settings += [{name: value} for name in scales for value in values]
    for turned in settings:
        check_knobs(turned, scales)
    files = [data or SAFETY, *([benign] if benign else [])]
    rows = load_safety(files[0], split=split, limit=limit)
    if benign:
        rows += load_safety(benign, split=split, limit=limit, kind="benign")
    paths = [Path(name) if Path(name).suffix else shipped_file(name) for name in domain or ()]
    asked = load_files(paths, split=split, limit=limit)
    refusals = None if generate == 0 else refusal_judge(judge or SAFETY)
    levels = judge_for(*paths) if paths and refusals else None
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    described = f"{', '.join(path.name for path in (*files, *paths))} {split}"
    described += f", first {limit} of each" if limit else ""
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    with progress() as advance:
        result = assess_safety(
            knobbed, rows, settings, judge=refusals, level_judge=levels, domains=asked, generate=generate,
            sampling=sampling, router=router_for(knobbed.base, router) if router else None, data=described, out=out,
            advance=advance,
        )  # fmt: skip
    if json:
        print_json(result)
        return
    for table in tables(result):
        print_table(table.columns, table.rows, title=table.title)
    if result.judge:
        typer.echo(result.judge.summary())
        typer.echo(result.judge.called_text())
    if out:
        typer.echo(f"{out}: safety.json safety.png replies.jsonl replies.md journal.jsonl")
