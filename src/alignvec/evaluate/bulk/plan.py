"""What a run generates, kept in its folder: only the same run goes on there."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from alignvec.errors import DataError
from alignvec.files import write_text
from alignvec.provenance import Provenance, provenance
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Strict

MANIFEST = "run.json"


class PromptsUsed(Strict):
    """Which prompts are replied to.

    Attributes:
        file: its name.
        split: of preference data.
        count: how many prompts.
        digest: of what is used of them.
    """

    file: str
    split: str | None
    count: int
    digest: str


class AnsweredBy(Strict):
    """Who replies.

    Attributes:
        engine: `local`, `openai` or `vllm`.
        model: name at the endpoint, or what the base model was called.
        base: fingerprint of the base; None behind an endpoint.
        dtype: of the weights; None behind an endpoint.
        vectors: vector to a digest of its files, or of what the endpoint says of it.
        named: how knobs are written into the model's name; None: they are not.
        routed: whether a router acts on the knobs.
        turnable: knobs of an endpoint that every request names, at 0 too: a key may have other defaults.
    """

    engine: Literal["local", "openai", "vllm"]
    model: str
    base: str | None = None
    dtype: str | None = None
    vectors: dict[str, str] = Field(default_factory=dict)
    named: str | None = None
    routed: bool = False
    turnable: tuple[str, ...] = ()


class Plan(Strict):
    """Everything that decides what the replies will be, and which file each goes to.

    Attributes:
        prompts: what is replied to.
        settings: knobs, at each of which every prompt is replied to.
        answered_by: who replies.
        sampling: how replies are decoded; each prompt has a seed that follows from this one.
        shard_size: prompts in a block.
    """

    prompts: PromptsUsed
    settings: tuple[dict[str, float], ...]
    answered_by: AnsweredBy
    sampling: Sampling
    shard_size: int

    @property
    def replies(self) -> int:
        """Number of replies in all."""
        return self.prompts.count * len(self.settings)


class Manifest(Strict):
    """The file `run.json`: the plan, and where it was begun.

    Attributes:
        plan: everything that decides what the replies will be.
        provenance: how and where the run was begun.
    """

    plan: Plan
    provenance: Provenance


def keep_plan(out: Path, plan: Plan) -> None:
    """Write the plan into a new run's folder, or check that it is the plan of the run that is there.

    Raises:
        DataError: naming what differs, if the folder holds another run.
        StorageError: if it cannot be written.
    """
    if not (out / MANIFEST).exists():
        manifest = Manifest(plan=plan, provenance=provenance())
        write_text(out / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        return
    there, mine = _flat(read_plan(out).model_dump(mode="json")), _flat(plan.model_dump(mode="json"))
    names = dict.fromkeys([*mine, *there])
    if differing := next((name for name in names if mine.get(name) != there.get(name)), None):
        raise DataError(
            f"{out} holds a run with another {differing} ({_short(there.get(differing))} there, "
            f"{_short(mine.get(differing))} now); choose another --out, or ask for the same"
        )


def read_plan(out: Path) -> Plan:
    """The plan of the run in a folder.

    Raises:
        DataError: if there is none.
    """
    path = out / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes()).plan
    except FileNotFoundError:
        raise DataError(f"no {MANIFEST} in {out}; name a folder that alignvec generate has written") from None
    except (OSError, ValidationError) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{path} is no manifest of a run ({why}); choose another --out") from None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Values by dotted names; lists are values."""
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{name}.{key}" if name else key)
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
