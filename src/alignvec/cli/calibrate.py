"""`alignvec calibrate`: what the positions of one knob do, and how far it can be turned."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DataOption,
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


def calibrate(
    vector: Annotated[Path, typer.Argument(help="folder of the vector")],
    data: DataOption = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "validation",
    limit: LimitOption = None,
    generate: Annotated[
        int | None, typer.Option("--generate", min=1, help="reply to the first N queries only; default: all")
    ] = None,
    points: Annotated[int, typer.Option("--points", min=5, max=41, help="number of λ that are measured")] = 9,
    farthest: Annotated[float, typer.Option("--max", min=1, help="largest |λ| that is tried")] = 2.0,
    text: Annotated[
        Path | None,
        typer.Option("--text", help="rows of general text, for perplexity; default: data/levels/general.jsonl"),
    ] = None,
    language: Annotated[str, typer.Option("--language", help="language that replies should be in")] = "en",
    perplexity: Annotated[
        float, typer.Option("--perplexity", min=1, max=1000, help="limit: perplexity of general text over the base's")
    ] = 1.25,
    degenerate: Annotated[
        float, typer.Option("--degenerate", min=0, max=1, help="limit: share of broken replies above the base's")
    ] = 0.1,
    off_language: Annotated[
        float,
        typer.Option("--off-language", min=0, max=1, help="limit: share of foreign replies above the base's"),
    ] = 0.05,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for calibration.json, calibration.png and the journal")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="keep curve, usable range and settings in the vector's card")
    ] = False,
    model: ModelOption = "demo",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Find a knob's usable range, and a λ for each level.

    Fits what the knob does over λ. Killed, the same command with --out goes on where it was.
    """
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.evaluate.judge import judge_for
    from alignvec.provenance import provenance
    from alignvec.solve.calibration import calibrate as run
    from alignvec.solve.calibration_report import CalibrationResult, rows_of, summary, write_calibration
    from alignvec.solve.knob_meter import KnobMeter
    from alignvec.steer.sampling import Sampling
    from alignvec.vectors.calibration import Limits
    from alignvec.vectors.store import load_card, reload_card, save_card

    if card and allow_other_base:
        raise ConfigError("--card keeps what was measured on the vector's own base; leave out --allow-other-base")
    described = load_card(vector)
    path, general = data or shipped_file(described.domain or described.name), text or shipped_file("general")
    rows, texts = load_rows(path, split=split, limit=limit), load_rows(general)
    judge = judge_for(path)
    knobbed = load_knobbed(model, [vector], dtype=dtype, device=device, allow_other_base=allow_other_base)
    meter = KnobMeter(
        knobbed,
        described.name,
        rows,
        texts,
        judge,
        generate=generate,
        language=language,
        sampling=Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed),
        data=f"{path.name} {split}" + (f", first {limit}" if limit else ""),
        text=general.name,
        journal=out / "journal.jsonl" if out else None,
    )
    limits = Limits(perplexity=perplexity, degenerate=degenerate, off_language=off_language)
    with progress() as advance:
        found = run(meter, limits, points=points, farthest=farthest, advance=advance)
    result = CalibrationResult(
        vector=described.name, base=knobbed.base.name, calibration=found, provenance=provenance()
    )
    if out:
        write_calibration(result, out)
    if json:
        print_json(result)
    else:
        print_table(*rows_of(found), title=f"{described.name}: {len(rows)} queries, {len(meter.replied)} replied to")
        typer.echo(summary(found))
        if out:
            typer.echo(f"{out}: calibration.json calibration.png journal.jsonl")
    if card:  # at the end: a card that cannot keep it must not hide it
        now = reload_card(vector, described)
        settings = {**now.settings, **found.settings}
        save_card(vector, now.model_copy(update={"calibration": found, "settings": settings}))
