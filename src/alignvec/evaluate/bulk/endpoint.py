"""Whether an endpoint turns knobs, and proof in every answer that it has turned those that were asked for."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from alignvec.data.teacher.completion import Completion
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.data.teacher.request import Request
from alignvec.errors import ConfigError, TeacherError
from alignvec.steer.knobs import Knobs, format_knobs
from alignvec.steer.scale import Scale

ROUNDING = 1e-6
"""By how much an applied coefficient may differ from the one that was asked for."""


@dataclass(frozen=True)
class Served:
    """What an endpoint says of its knobs at `/v1/alignment`.

    Attributes:
        said: whether it says anything at all; plain endpoints do not.
        model: name of the model that is served; None if it is not said.
        scales: what every knob's positions mean.
        digests: vector to a digest of what is said of it; its tensors' hash is a part of that.
        routed: whether a router acts on the knobs.
        turnable: knobs that the key may turn, if that is said.
    """

    said: bool = False
    model: str | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    routed: bool = False
    turnable: tuple[str, ...] = ()


def ask_what_is_served(endpoint: Endpoint) -> Served:
    """Ask an endpoint for its knobs.

    Raises:
        ConfigError: if its URL is none.
        TeacherError: if it cannot be reached, refuses the key, or answers with something else.
    """
    import httpx2

    url = f"{endpoint.base_url}/alignment"
    shown = f"{endpoint.shown}/alignment"
    try:
        answer = httpx2.get(url, headers={"Authorization": f"Bearer {endpoint.key}"}, timeout=endpoint.timeout)
    except httpx2.HTTPError as error:
        raise TeacherError(f"no endpoint at {endpoint.shown} ({error}); start it, or check --endpoint-url") from error
    if answer.status_code in (401, 403):
        raise TeacherError(f"{shown} refuses the key; put the right one in ${endpoint.key_variable}")
    if answer.status_code in (404, 405, 501):
        return Served()
    try:
        answer.raise_for_status()
        about = answer.json()
        return Served(
            said=True,
            model=about.get("model"),
            scales={one["name"]: _scale(one) for one in about["data"]},
            digests={one["name"]: _digest(one) for one in about["data"]},
            routed=about.get("router") is not None,
            turnable=tuple(one["name"] for one in about["data"] if one.get("key") and not one["key"].get("forced")),
        )
    except (httpx2.HTTPError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TeacherError(
            f"{shown} does not say which knobs there are ({type(error).__name__}: {error}); check --endpoint-url"
        ) from None


def echo_check(endpoint: Endpoint, *, routed: bool) -> Callable[[Request, Completion], None]:
    """A check that an answer's `alignment.applied` is what was asked for; one that says nothing may ignore knobs.

    Args:
        endpoint: named in what the user is told.
        routed: a router turns knobs as far as the prompt is their business, so that other coefficients are no fault;
            what the answer says was requested must be what was asked for.

    Returns:
        The check; it raises a `TeacherError`, as every answer would be wrong.
    """

    def check(request: Request, completion: Completion) -> None:
        if request.knobs is None:
            return
        told = completion.alignment
        applied = told.get("applied") if isinstance(told, dict) else None
        if not isinstance(applied, dict):
            raise TeacherError(
                f"{endpoint.shown} does not say which knobs it has applied, so it may ignore them; ask for `base` "
                "alone, or name an endpoint that turns knobs (one that reads them in the model's name: "
                "--model-template)"
            )
        asked = {name: value for name, value in request.knobs if value}
        if routed:
            requested = told.get("requested")
            if not isinstance(requested, dict) or not _same(asked, requested):
                raise TeacherError(
                    f"{endpoint.shown} was asked for {format_knobs(asked)} and says that it was asked for "
                    f"{_told(requested) if isinstance(requested, dict) else 'nothing'}; its router may not have got it"
                )
        elif not _same(asked, applied):
            raise TeacherError(
                f"{endpoint.shown} was asked for {format_knobs(asked)} and has applied {_told(applied)}"
                f"{_why(told)}; ask for what it applies"
            )

    return check


def named_model(template: str, model: str, knobs: Knobs) -> str:
    """The model's name with the knobs in it, for engines that read them there; the bare name for the base.

    Args:
        template: such as `{model}:{knobs}`.
        model: name of the model.
        knobs: of the request.

    Raises:
        ConfigError: if the template lacks a field or has another.
    """
    if "{knobs}" not in template or "{model}" not in template:
        raise ConfigError(f"--model-template {template!r} lacks a field; write it like {{model}}:{{knobs}}")
    return template.replace("{model}", model).replace("{knobs}", format_knobs(knobs)) if knobs else model


def _scale(one: Mapping[str, Any]) -> Scale:
    usable = one.get("usable_range")
    curve = [(float(x), float(y)) for x, y in one.get("percent_curve") or ()]
    levels = {str(name): float(value) for name, value in (one.get("levels") or {}).items()}
    return Scale(str(one["name"]), levels, (float(usable[0]), float(usable[1])) if usable else None, curve)


def _digest(one: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(one, sort_keys=True).encode()).hexdigest()[:16]


def _same(asked: Knobs, applied: Mapping[str, Any]) -> bool:
    try:
        turned = {name: float(value) for name, value in applied.items() if float(value)}
    except (TypeError, ValueError):
        return False
    return turned.keys() == asked.keys() and all(
        math.isclose(turned[name], value, rel_tol=ROUNDING, abs_tol=ROUNDING) for name, value in asked.items()
    )


def _told(applied: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in applied.items()) or "base"


def _why(told: Mapping[str, Any]) -> str:
    reasons = [f"{what}: {', '.join(told[what])}" for what in ("clamped", "forced", "routed") if told.get(what)]
    return f" ({'; '.join(reasons)})" if reasons else ""
