"""From the knobs that a request asks for to the coefficients that are applied."""

from collections.abc import Mapping, Sequence

from alignvec.errors import KnobError
from alignvec.serve.errors import BadRequestError, ForbiddenError, UnreadableKnobError
from alignvec.serve.goals import with_goals
from alignvec.serve.policy.rules import Bound, Rules, usable_range
from alignvec.serve.setting import Asked, Setting
from alignvec.steer.scale import Scale
from alignvec.steer.solved import SolvedSetting
from alignvec.steer.usable import cut, outside

MOST_KNOBS = 64
LONGEST = 256
"""Characters that the audit log keeps of a position or goal that was not allowed."""
PARAM = "alignment"
ROUNDING = 1e-9
"""A limit copied from a message, where it is rounded, is within the limit."""


def resolve_request(
    asked: Sequence[Asked],
    goals: Mapping[str, SolvedSetting],
    scales: Mapping[str, Scale],
    rules: Rules,
    *,
    strict: bool,
) -> Setting:
    """The setting of a request that may name goals (see `with_goals`); what it asked for is told as it was written.

    Raises:
        BadRequestError: for an unknown goal, and as `resolve`.
        ForbiddenError: as `resolve`.
    """
    knobs = with_goals(asked, goals, scales, rules)
    written = {name: value for part in asked if isinstance(part, Mapping) for name, value in part.items()}
    try:
        found = resolve(knobs, scales, rules, strict=strict)
    except ForbiddenError as error:
        error.requested = {n: v if isinstance(v, int | float) else str(v)[:LONGEST] for n, v in written.items()}
        raise
    return found.model_copy(update={"requested": written})


def resolve(asked: Sequence[Asked], scales: Mapping[str, Scale], rules: Rules, *, strict: bool) -> Setting:
    """The setting of one request.

    A vector's position is read as λ, held against the key's limits, then cut to the usable range. A vector that is
    not named gets the policy's default, else the allowed λ nearest to 0.

    Args:
        asked: knobs from each place of the request, lowest precedence first; a later one replaces an earlier one.
        scales: of the loaded vectors; `rules` must have been checked against them.
        rules: of the request's key.
        strict: refuse λ outside the usable range instead of cutting it.

    Raises:
        BadRequestError: for an unknown vector, a position that cannot be read, too many knobs, or `strict`.
        ForbiddenError: for what the key's rules do not allow.
    """
    requested = _merged(asked)
    for name in requested:
        if name not in scales:
            raise _bad(
                f"no vector named {str(name)[:40]!r} is loaded (have: {', '.join(scales) or 'none'}); use one of them"
            )
    applied: dict[str, float] = {}
    forced: dict[str, float] = {}
    for name, scale in scales.items():
        bound = rules.bound(scale)
        if name in requested:
            wanted = _coefficient(scale, requested[name])
            if bound is None:
                may = ", ".join(n for n, s in scales.items() if (b := rules.bound(s)) and not b.forced) or "none"
                raise ForbiddenError(f"this key may not turn {name} (it may turn: {may}); leave it out", param=PARAM)
            applied[name] = _allowed(_written(name, requested[name], wanted), wanted, bound)
        elif bound is not None and bound.rest != 0:
            applied[name] = bound.rest
        if bound is not None and (bound.forced or (name not in requested and bound.default is None and bound.rest)):
            forced[name] = bound.rest
    applied, clamped = cut(applied, {name: usable_range(scales[name]) for name in applied})
    if strict and clamped:
        raise _bad(f"{outside(*next(iter(clamped.items())))}; ask for a value inside")
    return Setting(requested=requested, applied=applied, clamped=clamped, forced=forced)


def _merged(asked: Sequence[Asked]) -> dict[str, float | str]:
    requested: dict[str, float | str] = {}
    for knobs in asked:
        if not isinstance(knobs, Mapping):
            raise _bad('alignment must be an object of knobs, such as {"medical": 0.5}')
        requested.update(knobs)
        if len(requested) > MOST_KNOBS:
            raise _bad(f"more than {MOST_KNOBS} knobs; name only those to turn")
    return requested


def _coefficient(scale: Scale, value: float | str) -> float:
    # True would count as 1, and nobody writes a number with more characters than this.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and not (isinstance(value, str) and len(value) <= 64 and value.isprintable()):
        raise _unreadable(f"knob {scale.name!r}: its value must be a number, a level or a percentage, such as 0.5")
    try:
        return scale.coefficient(value) + 0.0  # −0 becomes 0
    except KnobError as error:
        raise _unreadable(str(error)) from None
    except ValueError:  # an integer too long to be shown in a message
        raise _unreadable(
            f"knob {scale.name!r}: its value is not a finite number; write it like {scale.name}=0.5"
        ) from None


def _allowed(knob: str, wanted: float, bound: Bound) -> float:
    within = min(max(wanted, bound.low), bound.high)
    if abs(wanted - within) <= ROUNDING:
        return within
    limit = f"{within:.12g}"
    if bound.forced:
        why = f"differs from {limit}, which this key's policy sets; leave it out"
    elif wanted > within:
        why = f"is above this key's limit {limit}; ask for at most {limit}"
    else:
        why = f"is below this key's limit {limit}; ask for at least {limit}"
    raise ForbiddenError(f"knob {knob} {why}", param=PARAM)


def _written(name: str, value: float | str, wanted: float) -> str:
    return f"{name}={value.strip()} (λ = {wanted:g})" if isinstance(value, str) else f"{name}={wanted:g}"


def _bad(message: str) -> BadRequestError:
    return BadRequestError(message, param=PARAM)


def _unreadable(message: str) -> BadRequestError:
    return UnreadableKnobError(message, param=PARAM)
