"""The plan of a build, kept in its folder: a resumed build must be the same one."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignvec.data.built import PLAN
from alignvec.data.schema import PersonaSource
from alignvec.data.synthesis.outputs import records_in
from alignvec.data.synthesis.settings import BuildSettings
from alignvec.errors import DataError
from alignvec.files import write_text

_COMMON = ("domain.name", "domain.description", "domain.language", "teacher", "seed", "retries")
DEPENDS_ON = {
    "personas": (*_COMMON, "domain.personas", "domain.keywords", "prompts.persona"),
    "queries": (*_COMMON, "domain.topics", "prompts.query", "queries_per_persona"),
    "rows": (*_COMMON, "domain.levels", "prompts.reply", "prompts.judge", "judge", "reply_sampling"),
}
"""What each stage's texts depend on, besides the stage before it."""


def keep_plan(out: Path, settings: BuildSettings, stages: Sequence[str], source: PersonaSource | None) -> None:
    """Write what the stages depend on, or check that it is what the folder was built with.

    As long as a folder has no results of a stage, its plan may change.

    Args:
        out: folder of the build.
        settings: of the build.
        stages: those that will run, of personas, queries and rows.
        source: where given personas come from; None if they are invented.

    Raises:
        DataError: naming what differs, if the folder holds a build with other settings.
    """
    whole = settings.model_dump(mode="json")
    plan = {stage: _picked(whole, DEPENDS_ON[stage]) for stage in stages}
    if "personas" in plan:
        plan["personas"]["source of personas"] = source.model_dump(mode="json") if source else None
    path = out / PLAN
    there: dict[str, Any] = {}
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise DataError(f"{path} cannot be read; choose another --out") from None
    for stage in plan.keys() & there.keys():
        if not records_in(out / f"{stage}.jsonl"):
            del there[stage]
        elif differing := _differing(plan[stage], there[stage]):
            name, mine, theirs = differing
            raise DataError(
                f"{out} holds {stage} of another {name} ({_short(theirs)} there, {_short(mine)} now); "
                "choose another --out, or ask for the same"
            )
    if plan.keys() - there.keys():
        write_text(path, json.dumps(there | plan, indent=1, ensure_ascii=False) + "\n")


def _picked(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The values at dotted names."""
    picked = {}
    for name in names:
        value: Any = values
        for part in name.split("."):
            value = value[part]
        picked[name] = value
    return picked


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting that differs."""
    return next(((name, mine[name], theirs.get(name)) for name in mine if mine[name] != theirs.get(name)), None)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"#{hashlib.sha256(text.encode()).hexdigest()[:8]}"
