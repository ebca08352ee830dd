"""`alignvec check-goals`: solved settings on queries that they were not chosen on."""

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
    VectorsOption,
    data_name,
    load_knobbed,
    named_scales,
    print_json,
    print_table,
)
from alignvec.progress import progress


def check_goals(
    settings: Annotated[Path, typer.Argument(help="settings.yaml of alignvec solve --out")],
    router: Annotated[
        Path | None, typer.Option("--router", help="folder of a router: each knob counts on its domain's prompts")
    ] = None,
    vectors: VectorsOption = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="JSON-lines file; repeatable; default: shipped data")
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "test",
    limit: LimitOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder for check.json and the journal")] = None,
    model: ModelOption = "demo",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Check solved goals on held-out queries.

    Counts which goals of a settings file are reached, by the levels of generated replies. Killed, the same command with
    --out goes on where it was.
    """
    from alignvec.data.load import load_files, shipped_file
    from alignvec.errors import KnobError
    from alignvec.evaluate.judge import judge_for
    from alignvec.provenance import provenance
    from alignvec.solve.check import Check, check_settings, table_of, write_check
    from alignvec.steer.knobs import parse_knobs
    from alignvec.steer.routed import router_for
    from alignvec.steer.sampling import Sampling
    from alignvec.steer.solved import read_settings, routing_mismatch, solved_routed

    scales = named_scales(vectors)
    stored = read_settings(settings)
    wanted = {goal: parse_knobs(f"@{settings}#{goal}", scales=scales) for goal in stored}
    bounds = {goal: one.constraints for goal, one in stored.items()}
    if not wanted:
        raise KnobError(f"{settings} has no settings; make it with alignvec solve --out")
    if wrong := routing_mismatch(settings, router=router is not None):
        typer.echo(f"warning: {wrong}", err=True)
    domains = dict.fromkeys(part.partition("=")[0].strip() for goal in wanted for part in goal.split(","))
    paths = data or [shipped_file(domain) for domain in domains]
    rows = load_files(paths, split=split, limit=limit)
    judge = judge_for(*paths)
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    loaded = router_for(knobbed.base, router) if router else None
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    described = data_name(paths, split, limit)
    with progress() as advance:
        goals, replies = check_settings(
            knobbed, rows, wanted, bounds, judge, sampling, router=loaded, data=described, out=out, advance=advance
        )
    check = Check(
        data=described,
        routed=router is not None,
        solved_routed=solved_routed(settings),
        judge=judge.report,
        replies=replies,
        goals=tuple(goals),
        sampling=sampling.model_dump(),
        provenance=provenance(),
    )
    if out:
        write_check(check, out)
    if json:
        print_json(check)
        return
    columns, lines, legend = table_of(check)
    print_table(columns, lines)
    typer.echo(legend)
    typer.echo(check.summary())
    typer.echo(judge.report.summary())
    if unchecked := sorted({bound for one in goals for bound in one.unchecked}):
        typer.echo(f"not measured here: {', '.join(unchecked)}")
    if out:
        typer.echo(f"{out}: check.json goals.png journal.jsonl")
