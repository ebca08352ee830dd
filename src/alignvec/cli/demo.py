"""`alignvec demo`: the main job on the embedded model."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    SeedOption,
    load_knobbed,
    print_json,
    print_table,
)
from alignvec.progress import progress


def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for results and picture")] = Path("out/demo"),
    limit: Annotated[int, typer.Option("--limit", min=1, help="held-out queries a domain for the table")] = 6,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="longest reply, in tokens")] = 120,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Turn and measure the shipped knobs on the demo model.

    One held-out question per domain is answered at every level, and each knob is measured over λ on a few more.
    """
    from alignvec.evaluate.demo import DemoResult, answers, measure
    from alignvec.evaluate.sweep_report import tables
    from alignvec.steer.sampling import Sampling

    knobbed = load_knobbed("demo", None, dtype=dtype, device=device)
    sampling = Sampling(max_new_tokens=max_new_tokens, seed=seed)
    said = answers(knobbed, sampling)
    if not json:
        asked = ""
        for answer in said:
            if answer.query != asked:
                typer.secho(f"\n{answer.domain}: {answer.query}", bold=True)
                asked = answer.query
            typer.echo(f"\n  {answer.level} (λ = {answer.coefficient:g})\n  {answer.reply}")
        typer.echo("")
    with progress() as advance:
        sweeps, picture = measure(knobbed, out, limit=limit, sampling=sampling, advance=advance)
    if json:
        print_json(DemoResult(answers=tuple(said), sweeps=tuple(sweeps), picture=picture))
        return
    for result in sweeps:
        for table in tables(result):
            print_table(table.columns, table.rows, title=table.title)
    if sweeps and sweeps[0].judge:
        typer.echo(sweeps[0].judge.summary())
        typer.echo(sweeps[0].judge.confusion_text())
    typer.echo("A model of 135M parameters: judge level and fluency; facts are often wrong. Not advice.")
    typer.echo(f"picture: {picture}")
