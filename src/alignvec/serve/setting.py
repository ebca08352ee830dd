"""The knobs of one request: what was asked for, and what is applied."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Asked: TypeAlias = Mapping[str, float | str]
"""Vector name to λ, level (`expert`) or share of the way to the highest level (`80%`), as a user writes it."""


class Setting(BaseModel):
    """The `alignment` field of a reply.

    Attributes:
        requested: what the request asked for, after precedence, as written.
        applied: coefficient λ of every vector that is turned; with a router, after it.
        clamped: vectors whose coefficient was cut to the usable range, with that range.
        forced: vectors that the key's policy sets, whatever was asked for.
        routed: with a router, how likely the prompt is each domain's business.
        vectors: the set of vectors that the knobs were read against (the engine's `LoadedVectors`); not echoed.
    """

    model_config = ConfigDict(frozen=True)

    requested: dict[str, float | str] = Field(default_factory=dict)
    applied: dict[str, float] = Field(default_factory=dict)
    clamped: dict[str, tuple[float, float]] = Field(default_factory=dict)
    forced: dict[str, float] = Field(default_factory=dict)
    routed: dict[str, float] = Field(default_factory=dict)
    vectors: Any = Field(default=None, exclude=True, repr=False)
