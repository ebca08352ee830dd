"""Knobs that come outside the body: in a header, or in the model's name."""

from pathlib import Path

from alignvec.serve.errors import BadRequestError, ForbiddenError, ServeError, UnknownModelError, UnreadableKnobError
from alignvec.serve.goals import GOAL

HEADER = "X-Alignment"


def served_name(model: str) -> str:
    """The name a model is served under: of a folder, the last part of its path."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def header_knobs(text: str) -> dict[str, str]:
    """Knobs of the header, such as `medical=0.8,legal=avoidance`, or a goal, `@medical=expert,legal=avoidance`.

    Raises:
        UnreadableKnobError: if a part is not name=value, or a name comes twice.
    """
    return _knobs(text, HEADER)


def model_knobs(model: str, served: str) -> dict[str, str]:
    """Knobs or a goal in a model's name, such as `demo:medical=0.8`.

    Raises:
        UnknownModelError: if the name before the colon is not the served one, or what follows it is no knob at all.
        UnreadableKnobError: if a knob is not name=value, or a name comes twice.
    """
    if model == served:
        return {}
    if not model.startswith(f"{served}:"):
        raise UnknownModelError(
            f"no model named {model[:80]!r} is served; use {served!r}, or {served}:name=value for knobs", param="model"
        )
    if not (knobs := model.removeprefix(f"{served}:").strip()):
        raise UnknownModelError(f"{model[:80]!r} names no knob; use {served!r}, or {served}:name=value", param="model")
    try:
        return _knobs(knobs, "model")
    except UnreadableKnobError as error:
        if "=" in knobs:
            raise
        raise UnknownModelError(str(error), param="model") from None  # as `demo:latest`, which is another model


def name_error(error: BadRequestError | ForbiddenError) -> ServeError:
    """What /v1/models/{name} answers where the name's knobs cannot be turned.

    There is no such model, unless the knobs cannot be read.
    """
    kind = BadRequestError if isinstance(error, UnreadableKnobError) else UnknownModelError
    return kind(str(error), param="model")


def _knobs(text: str, where: str) -> dict[str, str]:
    knobs: dict[str, str] = {}
    if text.strip() in ("", "base"):
        return knobs
    if text.strip().startswith("@"):
        return {GOAL: text.strip()[1:]}
    for part in text.split(","):
        name, equals, value = (x.strip() for x in part.partition("="))
        if not (name and equals and value) or "=" in value:
            raise UnreadableKnobError(
                f"cannot read {part.strip()[:40]!r} in {where}; write it like medical=0.5", param=where
            )
        if name in knobs:
            raise UnreadableKnobError(f"{name[:40]!r} comes twice in {where}; name it once", param=where)
        knobs[name] = value
    return knobs
