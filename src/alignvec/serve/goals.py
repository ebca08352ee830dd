"""Solved goals that a request may name instead of knobs."""

from collections.abc import Mapping, Sequence

from alignvec.errors import ConfigError, KnobError
from alignvec.serve.errors import BadRequestError
from alignvec.serve.policy.rules import Rules
from alignvec.serve.setting import Asked
from alignvec.steer.scale import Scale
from alignvec.steer.solved import SolvedSetting, find_goals, nearest_goals

GOAL = "goal"
"""What stands for a goal where the knobs of a request stand."""


def check_goals(goals: Mapping[str, SolvedSetting], scales: Mapping[str, Scale]) -> None:
    """Check that every goal's knobs are those of loaded vectors; before they are served, at the start and at a reload.

    Args:
        goals: by name.
        scales: of the loaded vectors.

    Raises:
        ConfigError: naming goal and knob; also if a vector has the name that stands for a goal.
    """
    if goals and GOAL in scales:
        raise ConfigError(f"--settings and a vector named {GOAL!r} exclude each other; rename it in its card.json")
    for goal, solved in goals.items():
        for name, value in solved.knobs.items():
            if name not in scales:
                have = ", ".join(scales) or "none"
                raise ConfigError(
                    f"goal {goal}: no vector named {name!r} is loaded (have: {have}); check --settings and --vectors"
                )
            try:
                scales[name].coefficient(value)
            except KnobError as error:
                raise ConfigError(f"goal {goal}: {error}") from None


def with_goals(
    asked: Sequence[Asked], goals: Mapping[str, SolvedSetting], scales: Mapping[str, Scale], rules: Rules
) -> list[Asked]:
    """What a request asks for, with knobs where it names a goal; knobs that it names beside a goal win.

    A goal is a whole setting: a vector that it leaves out is asked to be at 0, if the key's limits let it be there.

    Args:
        asked: from each place of the request.
        goals: by name.
        scales: of the loaded vectors; one that is called `goal` is a knob like any other.
        rules: of the request's key.

    Raises:
        BadRequestError: naming the goals that there are.
    """
    return [
        {**_knobs(part[GOAL], goals, scales, rules), **{name: value for name, value in part.items() if name != GOAL}}
        if isinstance(part, Mapping) and GOAL in part and GOAL not in scales
        else part
        for part in asked
    ]


def _knobs(
    wanted: object, goals: Mapping[str, SolvedSetting], scales: Mapping[str, Scale], rules: Rules
) -> dict[str, float | str]:
    name = wanted if isinstance(wanted, str) else ""
    found = find_goals(goals, name)
    if not found:
        have = nearest_goals(goals, name) or "none: the server was started without --settings"
        wrong = (
            f"no goal {name[:200]!r} is solved here"
            if isinstance(wanted, str)
            else f"{GOAL} must be the name of a solved goal, as text"
        )
        raise BadRequestError(f"{wrong} (have: {have}); name one of them, or knobs", param="alignment")
    bounds = {name: rules.bound(scale) for name, scale in scales.items()}
    rest = {name: 0.0 for name, bound in bounds.items() if bound and bound.low <= 0 <= bound.high}
    return {**rest, **goals[found[0]].knobs}
