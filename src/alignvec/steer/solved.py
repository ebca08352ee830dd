"""A file of solved settings, so that a goal can be named wherever a knob is: `@settings.yaml#medical=expert`."""

from pathlib import Path
from typing import Any

import yaml

from alignvec.errors import KnobError


def read_setting(text: str) -> dict[str, Any]:
    """Knobs of one setting in a file.

    Args:
        text: `settings.yaml`, if the file has one setting, or `settings.yaml#GOAL`.

    Raises:
        KnobError: if there is no such file or setting, or the file is damaged.
    """
    name, _, goal = text.partition("#")
    path = Path(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings = {str(key): dict(value["knobs"]) for key, value in content["settings"].items()}
    except OSError as error:
        raise KnobError(f"cannot read {path}: {error.strerror or error}; make it with alignvec solve --out") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise KnobError(f"{path} holds no settings; make it with alignvec solve --out") from None
    if goal:
        wanted = {part.strip() for part in goal.split(",")}
        found = [key for key in settings if {part.strip() for part in key.split(",")} == wanted]
    else:
        found = list(settings)
    if len(found) != 1:
        have = "; ".join(settings) or "none"
        raise KnobError(
            f"{path} has {len(found) or 'no'} settings for {goal or 'no goal'!r}; name one after # ({have})"
        )
    return settings[found[0]]
