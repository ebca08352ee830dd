"""The knobs of one request: what was asked for, and what is applied."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Asked: TypeAlias = Mapping[str, float | str]
"""Vector name to λ, level (`expert`) or share of the way to the highest level (`80%`), as a user writes it."""


class Setting(BaseModel):
    """The `alignment` field of a reply: what was asked for, and what is applied."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    requested: dict[str, float | str] = Field(default_factory=dict)
    """What the request asked for, after precedence, as written."""
    applied: dict[str, float] = Field(default_factory=dict)
    """Coefficient λ of every vector that is turned; with a router, after it."""
    clamped: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Vectors whose coefficient was cut to the usable range, with that range."""
    forced: dict[str, float] = Field(default_factory=dict)
    """Vectors that the key's policy sets, whatever was asked for."""
    routed: dict[str, float] = Field(default_factory=dict)
    """With a router, how likely the prompt is each domain's business."""
    vectors: Any = Field(default=None, exclude=True, repr=False)
    """The set of vectors that the knobs were read against (the engine's `LoadedVectors`); not echoed."""
