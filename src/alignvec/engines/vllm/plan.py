"""What vLLM's processes are told: a file that the environment names, read by the plugin and by the middleware."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from alignvec.engines.stack import Slot
from alignvec.errors import ConfigError, KnobError
from alignvec.vectors.vector import AlignmentVector

PLAN: Final = "VLLM_ALIGNVEC_PLAN"
"""Environment variable with the path of the plan; vLLM hands on to workers elsewhere what begins with VLLM_."""
XARG: Final = "alignvec"
"""Name of the knobs among a request's `vllm_xargs`, and of a sampling's `extra_args`: `medical=0.5,legal=-0.3`."""
RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` that vLLM knows."""

Way = Literal["adapters", "gate"]


class Plan(BaseModel):
    """How a vLLM server turns knobs.

    Attributes:
        way: `adapters`: each setting is an adapter of its own, composed when it is first asked for, on stock vLLM;
            `gate`: one stacked adapter, and a gate for every token.
        model: name the model is served under.
        base: folder of the base model.
        vectors: folders of the vectors.
        step: with `adapters`, λ is rounded to multiples of this, so that near settings share an adapter.
        rank: `--max-lora-rank`.
        settings: with `adapters`, how many composed settings are kept.
        base_adapter: with `adapters`, the base is served as an adapter of zeros: vLLM's products for CPUs give tokens
            without an adapter the last one's (vllm pull request 48421).
        cache: folder for composed adapters, or of the stacked one.
        targets: names of the linear layers that vectors change, such as `q_proj`: else vLLM has adapters at the
            embeddings and the output head too, which costs more than all others together.
        slots: with `gate`, what the stacked adapter's columns are.
        policy, audit, audit_prompts, strict, goals: as for `alignvec serve`.
        allow_other_base: skip the fingerprint check.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    way: Way
    model: str
    base: Path
    vectors: tuple[Path, ...]
    rank: int
    cache: Path
    targets: tuple[str, ...]
    step: float = 0.05
    settings: int = 64
    slots: tuple[Slot, ...] = ()
    base_adapter: bool = False
    policy: Path | None = None
    audit: Path | None = None
    audit_prompts: bool = False
    strict: bool = False
    goals: Path | None = None
    allow_other_base: bool = False


def current_plan() -> Plan | None:
    """The plan that the environment names; None without one.

    Raises:
        ConfigError: if it cannot be read.
    """
    path = os.environ.get(PLAN)
    if not path:
        return None
    try:
        return Plan.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"cannot read {path}, which {PLAN} names: {first}; start with alignvec serve") from None


def worst_rank(vectors: Sequence[AlignmentVector]) -> int:
    """The largest rank that a setting of these vectors can need: of each the larger of its sides."""
    return sum(max(_rank(part.deltas) for part in vector.parts) for vector in vectors)


def setting_rank(vectors: Sequence[AlignmentVector], knobs: Mapping[str, float]) -> int:
    """The rank of one setting: the sum over the parts that are turned."""
    return sum(
        _rank(part.deltas) for v in vectors for part in v.parts if part.gate(knobs.get(v.name, 0.0))
    )  # fmt: skip


def allowed_rank(rank: int, *, what: str) -> int:
    """The smallest `--max-lora-rank` that holds a rank.

    Raises:
        KnobError: if vLLM has none so large.
    """
    for allowed in RANKS:
        if rank <= allowed:
            return allowed
    raise KnobError(f"{what} has rank {rank}, and vLLM's adapters at most {RANKS[-1]}; compress the vectors first")


def _rank(deltas: Mapping[str, object]) -> int:
    return max((getattr(delta, "rank", 0) for delta in deltas.values()), default=0)
