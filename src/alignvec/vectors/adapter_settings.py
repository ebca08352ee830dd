"""What `adapter_config.json` says: that an adapter is plain LoRA, and which rank and alpha each module has."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from alignvec.errors import VectorError
from alignvec.vectors.delta import Delta


def read_settings(path: Path) -> dict[str, Any]:
    """Content of a LoRA adapter's `adapter_config.json`.

    Raises:
        VectorError: if it cannot be read, or the adapter is no plain LoRA (DoRA, biases, a changed base).
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VectorError(f"cannot read {path}: {error}; is it a PEFT adapter folder?") from None
    if not isinstance(settings, dict) or "lora_alpha" not in settings:
        raise VectorError(f"{path} is no configuration of a LoRA adapter (it has no lora_alpha)")
    for key, allowed in _PLAIN_LORA.items():
        if settings.get(key) not in allowed:
            raise VectorError(
                f"{path}: {key}={settings.get(key)!r} has no exact low-rank delta; "
                "merge the adapter and extract from the two full models"
            )
    start = str(settings.get("init_lora_weights"))
    if start.lower().startswith(_CHANGES_BASE):
        raise VectorError(
            f"{path}: init_lora_weights={start!r} changed the base weights too, so the factors are "
            "not the difference to the base; merge the adapter and extract from the two full models"
        )
    return settings


_PLAIN_LORA: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "use_rslora": (True, False, None),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None, []),
}
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def stated(path: Path, settings: Mapping[str, Any], what: Literal["rank", "alpha"], module: str) -> float:
    """Rank or alpha that the settings give a module, by PEFT's own reading of its patterns.

    Args:
        path: where the settings are from, for the error.

    Raises:
        VectorError: if the value is no number, or a pattern is no regular expression.
    """
    value = settings.get("r" if what == "rank" else "lora_alpha")
    pattern = settings.get(f"{what}_pattern") or {}
    try:
        for key, own in pattern.items():
            if re.match(rf"(.*\.)?({key})$", module):
                value = own
                break
        return float(value)  # type: ignore[arg-type]  # whatever the file holds
    except (AttributeError, TypeError, ValueError, OverflowError, re.error) as error:
        raise VectorError(f"{path} gives {module} no usable {what}: {error}; copy the whole folder again") from None


def require_rank(path: Path, deltas: Mapping[str, Delta]) -> None:
    """Check that the settings in `path` give each module the rank of its factors: PEFT loads no others.

    Raises:
        VectorError: naming the first module with another rank.
    """
    settings = read_settings(path)
    for name, delta in deltas.items():
        module, actual = name.removesuffix(".weight"), getattr(delta, "rank", None)
        if actual and "r" in settings and (rank := stated(path, settings, "rank", module)) != actual:
            raise VectorError(
                f"{path} gives {module} rank {rank:g}, but its factors have rank {actual}; copy the whole folder again"
            )


def require_unit_scale(path: Path, deltas: Mapping[str, Delta]) -> None:
    """Check that the settings in `path` give each module the rank of its factors and scale 1, as in every saved vector.

    No hash covers the settings, so they must not scale what the hashes vouch for.

    Raises:
        VectorError: naming the first module with another rank or scale.
    """
    settings = read_settings(path)
    for name, delta in deltas.items():
        module, actual = name.removesuffix(".weight"), getattr(delta, "rank", None)
        rank, alpha = stated(path, settings, "rank", module), stated(path, settings, "alpha", module)
        if (rank, alpha) != (actual, actual) or settings.get("use_rslora"):
            raise VectorError(
                f"{path} gives {module} rank {rank:g} and alpha {alpha:g}, but a vector's factors have scale 1, "
                f"and these rank {actual}; copy the whole folder again, or make a vector of it with alignvec extract"
            )
