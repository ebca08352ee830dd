"""`alignvec llama-request`: a setting as fields of a request to llama-server."""

from pathlib import Path
from typing import Annotated

import typer

from alignvec.cli.usable import StrictOption, warn_unreached, within_usable


def llama_request(
    adapters: Annotated[Path, typer.Option("--adapters", help="folder that alignvec export --knobs wrote")],
    knob: Annotated[
        list[str] | None,
        typer.Option(
            "--knob",
            help="a setting such as medical=expert,legal=-0.3; repeatable, together one setting; default: base",
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="URL of a running llama-server, to check that its ids are these")
    ] = None,
    reuse_prompt: Annotated[
        bool,
        typer.Option("--reuse-prompt", help="leave out cache_prompt: false; only if all clients send these fields"),
    ] = False,
    strict: StrictOption = False,
) -> None:
    """Print a setting as JSON for a request to llama-server."""
    import json

    from alignvec.engines.llamacpp.manifest import load_manifest
    from alignvec.engines.llamacpp.request import check_server, request_fields
    from alignvec.steer.knobs import check_knobs, join_knobs, parse_knobs

    manifest = load_manifest(adapters)
    setting = parse_knobs(join_knobs(knob or []), scales=manifest.scales, router=False)
    warn_unreached(knob or [])
    check_knobs(setting, manifest.scales)
    setting = within_usable(setting, manifest.scales, strict=strict)
    if server is not None:
        check_server(manifest, server)
    typer.echo(json.dumps(request_fields(manifest, setting, reuse_prompt=reuse_prompt)))
