"""`alignvec route`: train a router, so that a domain's knob acts on its prompts only."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SeedOption,
    print_json,
    print_table,
)


def route(
    out: Annotated[Path, typer.Option("--out", help="folder for the router")],
    domain: Annotated[
        list[str] | None, typer.Option("--domain", help="domain with shipped data; repeatable; default: all three")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="JSON-lines file of a domain; repeatable; instead of --domain")
    ] = None,
    outside: Annotated[
        Path | None, typer.Option("--outside", help="JSON-lines file of prompts outside all domains; default: shipped")
    ] = None,
    layers: Annotated[
        str, typer.Option("--layers", help="layers to choose from, by commas; default: every third")
    ] = "",
    test: Annotated[bool, typer.Option("--test", help="tell the figures on the test prompts too")] = False,
    model: ModelOption = "demo",
    seed: SeedOption = 0,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Train a router on the base model's own hidden states; use it with alignvec ask --router."""
    from alignvec import models
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.solve.routing import SHIPPED, Prompt, load_prompts, report, train_router
    from alignvec.steer.router import Router, save_router

    paths = data or [shipped_file(name) for name in domain or ("medical", "legal", "financial")]
    others = outside or SHIPPED / "outside.jsonl"

    def prompts(split: str, elsewhere: list[Prompt]) -> list[Prompt]:
        rows = [row for path in paths for row in load_rows(path, split=split)]
        return [*(Prompt(row.query, frozenset([row.domain])) for row in rows), *elsewhere]

    sets = {split: prompts(split, load_prompts(others, split)) for split in ("train", "validation")}
    if test:
        general = [Prompt(row.query, frozenset()) for row in load_rows(shipped_file("general"), split="test")]
        sets["test"] = prompts("test", general)
        sets["several domains"] = load_prompts(SHIPPED / "mixed.jsonl")
    domains = tuple(dict.fromkeys(d for prompt in sets["train"] for d in sorted(prompt.domains)))
    base = models.load(model, dtype=dtype, device=device)
    deepest = base.model.config.num_hidden_layers
    try:
        chosen = [int(part) for part in layers.split(",")] if layers else list(range(3, deepest + 1, 3)) or [deepest]
    except ValueError:
        chosen = []
    if not chosen or not all(1 <= layer <= deepest for layer in chosen):
        raise ConfigError(f"--layers {layers}: layers are numbers from 1 to {deepest}, such as 6,12")
    router, how = train_router(base, domains, sets["train"], sets["validation"], layers=chosen, seed=seed)
    reports = {
        name: report(router.probabilities(base, [p.text for p in sets[name]]), sets[name], domains)
        for name in sets
        if name != "train"
    }
    measured = {"chosen": how, "reports": {name: one.model_dump() for name, one in reports.items()}}
    save_router(Router(router.card.model_copy(update={"measured": measured}), router.weight, router.bias), out)
    if json:
        print_json(measured)
        return
    rows = [
        (name, d, _share(one.recall, d), _share(one.false_alarms, d)) for name, one in reports.items() for d in domains
    ]
    print_table(("prompts", "domain", "found", "false alarms"), rows)
    for name, one in reports.items():
        typer.echo(
            f"{name}: all right for {one.right:.2f} of {one.prompts}, calibration error {one.calibration_error:.3f}"
        )
    typer.echo(f"{out}: layer {how['layer']}")


def _share(shares: dict[str, float], domain: str) -> str:
    return f"{shares[domain]:.2f}" if domain in shares else "-"
