"""`alignvec spillover`: what each knob changes in its own domain and in those it was not made for."""

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
    print_json,
    print_table,
    vector_places,
)
from alignvec.progress import progress


def spillover(
    coefficients: Annotated[
        str, typer.Option("--lambda", help="values of λ, by commas; default: each vector's own ends, and half of them")
    ] = "",
    router: Annotated[
        Path | None, typer.Option("--router", help="folder of a router: each knob counts on its domain's prompts")
    ] = None,
    generate: Annotated[
        bool, typer.Option("--generate/--no-generate", help="also reply, and judge the replies' levels")
    ] = False,
    vectors: VectorsOption = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="JSON-lines file; repeatable; default: shipped data, and general questions"),
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="train, validation or test")] = "test",
    limit: LimitOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder for JSON, heat map and the journal")] = None,
    card: Annotated[bool, typer.Option("--card", help="keep each knob's spillover in its card")] = False,
    model: ModelOption = "demo",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    json: JsonOption = False,
) -> None:
    """Measure what each knob changes in every domain.

    By preference rates, on held-out queries. Killed, the same command with --out goes on where it was.
    """
    from alignvec.data.load import levels_of, load_files, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.evaluate.journal import Journal
    from alignvec.evaluate.judge import judge_for
    from alignvec.evaluate.scope import scope_of
    from alignvec.evaluate.spillover import Turned, marked, measure_spillover, of_card
    from alignvec.evaluate.spillover_record import Spillover
    from alignvec.evaluate.spillover_report import points, table_of, write_spillover
    from alignvec.evaluate.sweep import parse_coefficients
    from alignvec.provenance import provenance
    from alignvec.steer.routed import router_for, row_shares, turn_by
    from alignvec.steer.sampling import Sampling
    from alignvec.steer.scale import scale_of
    from alignvec.vectors.store import load_card, reload_card, save_card

    if card and (router is not None or allow_other_base):
        raise ConfigError("--card keeps what a knob does on its own base without a router; leave out the other options")
    places = vector_places(vectors)
    cards = {name: load_card(place) for name, place in places.items()}
    values = parse_coefficients(coefficients) if coefficients else None
    turned = [Turned(n, v) for n, card in cards.items() for v in values or marked(scale_of(card)) if v]
    if not turned:
        raise ConfigError("--lambda names 0 alone, where no knob is turned; give other values")
    general = [shipped_file("general")] if split == "test" else []  # there are no general rows to choose on
    paths = data or list(dict.fromkeys([*(shipped_file(card.domain or n) for n, card in cards.items()), *general]))
    rows = load_files(paths, split=split, limit=limit)
    judge = judge_for(*paths) if generate else None
    knobbed = load_knobbed(model, vectors, dtype=dtype, device=device, allow_other_base=allow_other_base)
    queries = [row.query for row in rows]
    shares = row_shares(router_for(knobbed.base, router), knobbed, queries, list(cards)) if router else None
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    described = data_name(paths, split, limit)
    scope = scope_of(knobbed, list(cards), sampling, described, rows)
    with progress() as advance:
        base_rates, cells, summary = measure_spillover(
            knobbed, rows, turned, turn=turn_by(list(cards), shares), judge=judge, sampling=sampling,
            journal=Journal(out / "journal.jsonl" if out else None, scope), advance=advance,
        )  # fmt: skip
    result = Spillover(
        data=described,
        routed=router is not None,
        domains=tuple(dict.fromkeys(row.domain for row in rows)),
        levels=levels_of(rows),
        judge=judge.report if judge else None,
        base_rates=base_rates,
        cells=cells,
        summary=summary,
        sampling=sampling.model_dump(),
        provenance=provenance(),
    )
    if out:
        write_spillover(result, out)
    if json:
        print_json(result)
    else:
        columns_told, lines = table_of(result)
        print_table(columns_told, lines, title="mean change of preference rates, points (*: the knob's own domain)")
        typer.echo(f"mean: own domain {points(summary.on_target)}, others {points(summary.spillover)} ({described})")
        if summary.spillover_level and summary.on_target_level:
            own, others = points(summary.on_target_level), points(summary.spillover_level)
            typer.echo(f"levels of generated replies: own domain {own}, others {others}")
        if out:
            typer.echo(f"{out}: spillover.json spillover.png journal.jsonl")
    if card:  # at the end: a card that cannot keep it must not hide it
        now = {name: reload_card(places[name], old) for name, old in cards.items()}
        for name, kept in now.items():
            save_card(places[name], kept.model_copy(update={"spillover": of_card(result, name)}))
