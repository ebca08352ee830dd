"""`alignvec route`: train a router, so that a domain's knob acts on its prompts only."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
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
    prompts: Annotated[
        list[Path] | None,
        typer.Option(
            "--prompts",
            help="JSON-lines file of further training and validation prompts, some outside all domains; repeatable; "
            "default: the shipped ones (outside, short, several)",
        ),
    ] = None,
    layers: Annotated[
        str, typer.Option("--layers", help="layers to choose from, by commas; default: every third")
    ] = "",
    test: Annotated[bool, typer.Option("--test", help="tell the figures on the test prompts too")] = False,
    model: ModelOption = "demo",
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Train a router, which tells whose domain a prompt is.

    It reads the base model's own hidden states; use it with --router of `ask`, `chat`, `serve`, `solve`.
    """
    from alignvec import models
    from alignvec.data.load import load_rows, shipped_file
    from alignvec.errors import ConfigError
    from alignvec.solve.routing import FURTHER, SHIPPED, Prompt, load_prompts, report, train_router
    from alignvec.steer.router import Router, save_router

    paths = data or [shipped_file(name) for name in domain or ("medical", "legal", "financial")]
    further = prompts or FURTHER

    def asked(split: str, *, needed: bool = True) -> dict[str, list[Prompt]]:
        """Prompts by the name of their file; the domains' own as `queries`."""
        rows = [row for path in paths for row in load_rows(path, split=split)]
        found = {"queries": [Prompt(row.query, frozenset([row.domain])) for row in rows]}
        for path in further:
            name = path.stem if path.stem != "queries" else "queries (prompts)"
            found.setdefault(name, []).extend(load_prompts(path, split, needed=needed))
        return {name: some for name, some in found.items() if some}

    train, validation = asked("train"), asked("validation")
    domains = tuple(dict.fromkeys(d for prompt in train["queries"] for d in prompt.domains))
    if unknown := sorted({d for prompt in chain(*train.values()) for d in prompt.domains} - set(domains)):
        typer.echo(f"prompts of {', '.join(unknown)} count as outside: there are no queries of such a domain", err=True)
    sets = {f"validation {name}": found for name, found in validation.items()}
    if test:
        sets |= {f"test {name}": found for name, found in asked("test", needed=False).items()}
        if not prompts:
            sets["test outside"] = [Prompt(row.query, frozenset()) for row in load_rows(shipped_file("general"))]
            sets["test several"] = load_prompts(SHIPPED / "mixed.jsonl")
    base = models.load(model, dtype=dtype, device=device)
    deepest = base.model.config.num_hidden_layers
    try:
        chosen = [int(part) for part in layers.split(",")] if layers else None
    except ValueError:
        chosen = [0]
    if chosen is not None and not all(1 <= layer <= deepest for layer in chosen):
        raise ConfigError(f"--layers {layers}: layers are numbers from 1 to {deepest}, such as 6,12")
    router, how = train_router(base, domains, [*chain(*train.values())], [*chain(*validation.values())], layers=chosen)
    reports = {
        name: report(router, router.probabilities(base, [p.text for p in found]), found) for name, found in sets.items()
    }
    measured = {"chosen": how, "reports": {name: one.model_dump() for name, one in reports.items()}}
    save_router(Router(router.card.model_copy(update={"measured": measured}), router.weight, router.bias), out)
    if json:
        print_json(measured)
        return
    rows = [
        (name, d, *(_share(shares, d) for shares in (one.recall, one.false_alarms, one.acts, one.leaks)))
        for name, one in reports.items()
        for d in domains
    ]
    print_table(("prompts", "domain", "found", "false alarms", "knob acts", "elsewhere"), rows)
    for name, one in reports.items():
        typer.echo(
            f"{name}: all right for {one.right:.2f} of {one.prompts}, calibration error {one.calibration_error:.3f}"
        )
    typer.echo(
        f"{out}: layers {', '.join(map(str, router.card.layers))}; ramp {router.card.ramp[0]}-{router.card.ramp[1]}"
    )


def _share(shares: dict[str, float], domain: str) -> str:
    return f"{shares[domain]:.2f}" if domain in shares else "-"
