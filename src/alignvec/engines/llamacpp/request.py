"""A setting as what llama-server wants: its command line once, and the fields of every request."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from alignvec.engines.llamacpp.manifest import Manifest
from alignvec.errors import ConfigError
from alignvec.steer.knobs import Knobs, check_knobs, parse_knobs
from alignvec.steer.usable import cut

_SECONDS = 10.0


def server_options(manifest: Manifest, folder: Path) -> list[str]:
    """Options of `llama-server` that load the adapters under their ids, all at scale 0.

    One option with commas, since a repeated one is deprecated; and a scale of 0 for each, since
    `--lora-init-without-apply` leaves them at scale 1 for requests that name none (llama.cpp issue 28674).
    `--cache-ram 0` is for clients that forget `cache_prompt`, see `request_fields`.
    """
    adapters = ",".join(f"{folder / adapter.file}:0" for adapter in manifest.adapters)
    return ["--lora-scaled", adapters, "--cache-ram", "0"]


def request_fields(manifest: Manifest, setting: str | Knobs, *, reuse_prompt: bool = False) -> dict[str, Any]:
    """Fields of a request to `/completion`, `/v1/completions` or `/v1/chat/completions` that set the knobs.

    Every adapter is named, since an empty list is taken for none at all, and a request without the field keeps keys
    and values of whichever setting its slot had before (llama.cpp issues 28674 and 26207).

    Args:
        manifest: of the exported folder that the server has loaded.
        setting: text such as `medical=expert,legal=-0.3`, or vector name to λ. λ outside a usable range is cut to it.
        reuse_prompt: let the server reuse what its slot has read. Right only on a server that runs with
            `--cache-ram 0`, where every request names all adapters: the cache in memory finds prompts by their tokens
            alone, whatever they were read with.

    Raises:
        KnobError: if a knob names no vector of the folder, or its value cannot be understood.
    """
    scales = manifest.scales
    knobs = parse_knobs(setting, scales=scales, router=False) if isinstance(setting, str) else setting
    check_knobs(knobs, scales)
    knobs, _ = cut(knobs, {name: scale.usable for name, scale in scales.items() if scale.usable})
    lora = [
        {"id": number, "scale": adapter.scale(knobs.get(adapter.knob, 0.0))}
        for number, adapter in enumerate(manifest.adapters)
    ]
    return {"lora": lora} if reuse_prompt else {"lora": lora, "cache_prompt": False}


def check_server(manifest: Manifest, url: str) -> None:
    """Check that a running server has the folder's adapters under the ids that requests will name.

    An id that the server does not have is ignored by it, and one that means another adapter turns the wrong knob.

    Raises:
        ConfigError: if the server cannot be asked, or has other adapters or another order.
    """
    place = url.rstrip("/").removesuffix("/v1") + "/lora-adapters"
    try:
        with urllib.request.urlopen(place, timeout=_SECONDS) as answer:
            found = {int(entry["id"]): Path(entry["path"]).name for entry in json.load(answer)}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"cannot ask {place} for its adapters ({error}); is llama-server running there?") from error
    wanted = {number: adapter.file for number, adapter in enumerate(manifest.adapters)}
    for number in sorted(wanted.keys() | found.keys()):
        if wanted.get(number) != found.get(number):
            raise ConfigError(
                f"adapter {number} of the server at {url} is {found.get(number, 'missing')}, but here it is "
                f"{wanted.get(number, 'none')}; start llama-server with the options that alignvec export printed"
            )
