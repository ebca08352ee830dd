"""What one key may do: vectors, ranges and defaults of λ, forced settings, requests per minute, tokens."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from alignvec.errors import ConfigError, KnobError
from alignvec.serve.policy.keys import NAME
from alignvec.steer.scale import Scale

UNMEASURED = (-10.0, 10.0)
"""λ of a vector whose card has no measurements: nothing is known of it, but beyond this half precision overflows."""


def usable_range(scale: Scale) -> tuple[float, float]:
    """Lowest and highest λ that is applied: the measured range, or `UNMEASURED`."""
    return scale.usable or UNMEASURED


def _position(value: Any) -> float | str:
    if isinstance(value, str) and 0 < len(value.strip()) <= 40:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    raise ValueError("must be a finite number (λ), a level such as expert, or a percentage such as 80%")


Position = Annotated[float | str, BeforeValidator(_position)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class Part(BaseModel):
    """A part of a policy file."""

    # Somebody may paste a key where its hash belongs: no message shows what was written.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Limit(Part):
    """How far a key may turn one vector; each position is λ, a level or a percentage.

    Attributes:
        min: lowest position; None for the lowest usable one.
        max: highest position; None for the highest usable one.
        default: position when a request does not name the vector; None for the allowed one nearest to λ = 0.
    """

    min: Position | None = None
    max: Position | None = None
    default: Position | None = None


@dataclass(frozen=True)
class Bound:
    """A key's limits of one vector as λ.

    Attributes:
        low: lowest λ that may be asked for; -inf for no limit but the usable range.
        high: highest; inf for no limit.
        default: λ when a request does not name the vector, if the policy gives one.
        forced: the policy sets the vector; `low` and `high` are both that λ.
    """

    low: float
    high: float
    default: float | None = None
    forced: bool = False

    @property
    def rest(self) -> float:
        """λ when a request does not name the vector."""
        return min(max(0.0, self.low), self.high) if self.default is None else self.default


class Grant(Part):
    """What a request may do.

    Attributes:
        vectors: limits of the vectors that may be turned, by name; None for all, in their usable ranges.
        forced: positions of vectors, by name, that are set on every request.
        requests_per_minute: most requests in a minute; one for n replies counts n times. None for no limit.
        max_tokens: longest reply; None for what the context holds.
        admin: may reload vectors.
    """

    vectors: dict[str, Limit] | None = None
    forced: dict[str, Position] = Field(default_factory=dict)
    requests_per_minute: Count | None = None
    max_tokens: Count | None = None
    admin: StrictBool = False

    @model_validator(mode="after")
    def _one_place(self) -> "Grant":
        if both := sorted((self.vectors or {}).keys() & self.forced.keys()):
            raise ValueError(f"{both[0]} is in vectors and in forced; name it in one of them")
        return self

    def bound(self, scale: Scale) -> Bound | None:
        """The limits of one vector; None if it may not be turned.

        Raises:
            KnobError: if a position of the policy cannot be read (see `check`).
        """
        if scale.name in self.forced:
            value = scale.coefficient(self.forced[scale.name])
            return Bound(value, value, forced=True)
        limit = Limit() if self.vectors is None else self.vectors.get(scale.name)
        if limit is None:
            return None
        return Bound(
            low=-math.inf if limit.min is None else scale.coefficient(limit.min),
            high=math.inf if limit.max is None else scale.coefficient(limit.max),
            default=None if limit.default is None else scale.coefficient(limit.default),
        )

    def check(self, scales: Mapping[str, Scale]) -> None:
        """Check every position against the loaded vectors.

        Raises:
            ConfigError: naming the field, if its vector is not loaded, its position cannot be read or is outside the
                usable range, or min, default and max are not in this order.
        """
        fields = {
            f"vectors.{name}": [("min", limit.min), ("default", limit.default), ("max", limit.max)]
            for name, limit in (self.vectors or {}).items()
        } | {f"forced.{name}": [("", position)] for name, position in self.forced.items()}
        for field, positions in fields.items():
            name = field.partition(".")[2]
            if name not in scales:
                have = ", ".join(scales) or "none"
                raise ConfigError(f"{field}: no vector named {name!r} is loaded (have: {have}); check --vectors")
            scale, read = scales[name], []
            for part, position in positions:
                if position is None:
                    continue
                try:
                    read.append((part, scale.coefficient(position)))
                except KnobError as error:
                    raise ConfigError(f"{field}{'.' if part else ''}{part}: {error}") from None
            _check_order(field, read)
            _check_usable(field, self.bound(scale), usable_range(scale))


class Rules(Grant):
    """What the requests of one key may do.

    Attributes:
        name: of the key, in the audit log.
    """

    name: Annotated[str, Field(pattern=f"^{NAME}$")]


def _check_order(field: str, read: list[tuple[str, float]]) -> None:
    for (lower, low), (upper, high) in pairwise(read):
        if low > high:
            raise ConfigError(f"{field}: {lower} ({low:g}) is above {upper} ({high:g}); write {lower} <= {upper}")


def _check_usable(field: str, bound: Bound | None, usable: tuple[float, float]) -> None:
    low, high = usable
    if bound and not low <= bound.rest <= high:
        what = "the default" if bound.default is not None else "the value"
        raise ConfigError(
            f"{field}: {what} {bound.rest:g} is outside the vector's usable range {low:g} to {high:g}; move it inside"
        )
