"""Seconds that earlier runs wrote down: of solving (solve.json) and of training (run.json)."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel as Record
from pydantic import ConfigDict, Field, ValidationError

from alignvec.errors import DataError
from alignvec.provenance import Provenance
from alignvec.solve.seconds import SolveSeconds
from alignvec.vectors.strict import Strict


class Evaluations(Strict):
    """What measuring settings on the model took.

    Attributes:
        settings: number of them, the base included.
        seconds: of all of them.
        estimated: whether a part was not timed, and counted at the pace of the rest.
    """

    settings: int
    seconds: float
    estimated: bool
    machine: str


class Trained(Strict):
    """What a training run took."""

    seconds: float
    machine: str


class _Solved(Record):
    """What counts here of a solve.json."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    evaluations: int = Field(ge=1)
    seconds: SolveSeconds | None = None
    provenance: Provenance


def read_evaluations(solve: Path) -> Evaluations:
    """What a solve.json of `alignvec solve --out` tells.

    Raises:
        DataError: if it is missing, cannot be read, or has no seconds; it says what to run.
    """
    again = "solve again into an empty folder: alignvec solve --all --out DIR"
    try:
        solution = _Solved.model_validate(_read(solve, f"make it: {again}"))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{solve}: {'.'.join(map(str, first['loc']))}: {first['msg']}; {again}") from None
    if solution.seconds is None:
        raise DataError(f"{solve} has no seconds, as it was written before they were kept; {again}")
    seconds = solution.seconds.evaluations
    if seconds is None:
        raise DataError(f"{solve}: its run found every measurement in a journal, so nothing was timed; {again}")
    return Evaluations(
        settings=solution.evaluations,
        seconds=seconds,
        estimated=bool(solution.seconds.scoring.reused or solution.seconds.generating.reused),
        machine=solution.provenance.machine,
    )


def read_training(path: Path, *, of: str) -> Trained:
    """What a run.json of `alignvec train --out` tells.

    Args:
        path: of the file.
        of: what was trained, for the advice: `all domains jointly for one goal`, `the vector again`.

    Raises:
        DataError: if it is missing, cannot be read, or has no seconds; it says what to run.
    """
    advice = f"train {of}: alignvec train RECIPE --out DIR"
    record = _read(path, advice)
    seconds = record.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise DataError(f"{path} has no seconds of training; {advice}")
    origin = record.get("provenance")
    machine = origin.get("machine") if isinstance(origin, dict) else None
    return Trained(seconds=seconds, machine=str(machine or "unknown"))


def _read(path: Path, advice: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no file at {path}; {advice}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}; {advice}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no record; {advice}")
    return found
