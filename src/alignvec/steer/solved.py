"""A file of solved settings, so that a goal can be named wherever a knob is: `@settings.yaml#medical=expert`."""

from collections.abc import Collection
from pathlib import Path

import yaml
from pydantic import BaseModel as Record
from pydantic import ConfigDict, Field, ValidationError

from alignvec.data.yaml_keys import RepeatedKeyError, load_yaml
from alignvec.errors import KnobError

FEW = 3
"""Goals that a message names."""


class SolvedSetting(Record):
    """One setting of a file; what else stands there is not read.

    Attributes:
        knobs: λ, level or percentage by vector name; a vector that is not named is at 0.
        reached: whether the goal was reached where it was solved; None if the file does not say.
        constraints: bounds that it was solved under, in words.
        blocked_by: what stood in the way of a goal that was not reached.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    knobs: dict[str, float | str]
    reached: bool | None = None
    constraints: list[str] = Field(default_factory=list)
    blocked_by: str | None = None


class _File(Record):
    """A whole file; `routed` tells whether it was solved with a router, None if the file does not say."""

    model_config = ConfigDict(frozen=True, strict=True)

    routed: bool | None = None
    settings: dict[str, SolvedSetting]


def read_settings(path: Path) -> dict[str, SolvedSetting]:
    """All settings of a file, by goal.

    Raises:
        KnobError: if there is no such file, or it is damaged.
    """
    return _read(path).settings


def solved_routed(path: Path) -> bool | None:
    """Whether a file's settings are for a model with a router; None if it does not say.

    Raises:
        KnobError: as `read_settings`.
    """
    return _read(path).routed


def routing_mismatch(path: Path, *, router: bool) -> str | None:
    """What is wrong with a file's settings for a model with a router, or for one without; None if nothing is.

    Raises:
        KnobError: as `read_settings`.
    """
    routed = _read(path).routed  # None: the file does not tell
    if routed is None or routed == router:
        return None
    if routed:
        return (
            f"{path} was solved with a router, and there is none here; give the router with --router where it is "
            "taken (ask, chat, serve, check-goals; a merged model cannot route), or solve again without"
        )
    return f"{path} was solved without a router, and there is one here; leave out --router, or solve again with it"


def names_setting(text: str) -> bool:
    """Whether a text for knobs is `@FILE#GOAL`: a whole setting, in which a vector that is not named is at 0."""
    return text.strip().startswith("@")


def find_goals(goals: Collection[str], text: str) -> list[str]:
    """The goals of the same levels in any order: one, unless there is none or it is there twice."""
    wanted = {part.strip() for part in text.split(",")}
    return [goal for goal in goals if {part.strip() for part in goal.split(",")} == wanted]


def nearest_goals(goals: Collection[str], text: str) -> str:
    """The goals that have most in common with a text, for people: all of a few, the nearest of many."""
    wanted = {part.strip() for part in text.split(",")}
    near = sorted(goals, key=lambda goal: -len(wanted & {part.strip() for part in goal.split(",")}))
    rest = f"; and {len(near) - FEW} others" if len(near) > FEW else ""
    return "; ".join(near[:FEW]) + rest


def unreached(text: str) -> str | None:
    """A line about a setting (`@FILE#GOAL`) that did not reach its goal where it was solved; None for any other text.

    Raises:
        KnobError: as `read_setting`.
    """
    if not names_setting(text):
        return None
    goal, solved = _one(text.strip()[1:])
    if solved.reached is not False:
        return None
    why = f": {solved.blocked_by}" if solved.blocked_by else ""
    return f"the goal {goal} was not reached where it was solved{why}"


def read_setting(text: str, *, router: bool | None = None) -> dict[str, float | str]:
    """Knobs of one setting in a file.

    Args:
        text: `settings.yaml`, if the file has one setting, or `settings.yaml#GOAL`.
        router: whether the setting is for a model with a router; None: for either.

    Raises:
        KnobError: if there is no such file or setting, the file is damaged, or its settings are not for such a model.
    """
    if router is not None and (wrong := routing_mismatch(Path(text.partition("#")[0]), router=router)):
        raise KnobError(wrong)
    return _one(text)[1].knobs


def _one(text: str) -> tuple[str, SolvedSetting]:
    name, _, goal = text.partition("#")
    path = Path(name)
    settings = read_settings(path)
    found = find_goals(settings, goal) if goal else list(settings)
    if len(found) == 1:
        return found[0], settings[found[0]]
    if not settings:
        raise KnobError(f"{path} has no settings; make it with alignvec solve --out")
    if not goal:
        raise KnobError(f"{path} has {len(settings)} settings; name one after # ({nearest_goals(settings, '')})")
    known = ", ".join(dict.fromkeys(part.strip() for key in settings for part in key.split(",")))
    raise KnobError(
        f"{path} has no setting for {goal!r}; its goals are made of {known} (nearest: {nearest_goals(settings, goal)})"
    )


def _read(path: Path) -> _File:
    try:
        return _File.model_validate(load_yaml(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise KnobError(f"cannot read {path}: {error.strerror or error}; make it with alignvec solve --out") from None
    except RepeatedKeyError as error:
        raise KnobError(f"{path}: {error}; keep one") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError):
        raise KnobError(f"{path} holds no settings; make it with alignvec solve --out") from None
