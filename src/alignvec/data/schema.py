"""One row of preference data: a query with one reply per level."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator

LEVELS = ("avoidance", "generic", "expert")
"""The levels of the shipped data, from the one that says least to the one that says most."""

Split = Literal["train", "validation", "test"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PreferenceRow(BaseModel):
    """A persona's query and the reference replies to it, one per level.

    Rows of one persona always share a split, so a model is never tested on a persona it was trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    split: Split
    domain: Text
    topic: Text
    persona: Text
    query: Text
    responses: Mapping[str, Text]

    @field_validator("responses")
    @classmethod
    def _at_least_two_levels(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if len(value) < 2:
            raise ValueError("needs replies at two levels or more")
        return value
