"""One row of preference data: a query with one reply per level, and where it comes from."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator

LEVELS = ("avoidance", "generic", "expert")
"""The levels of the shipped data, from the one that says least to the one that says most."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PersonaSource(BaseModel):
    """Where a persona comes from.

    Attributes:
        kind: `file`, `persona-hub` or `created` (invented by the teacher); `import` for rows of a foreign data set.
        name: file name, data set id, or teacher.
        licence: its licence, as far as it is known (PersonaHub: CC-BY-NC-SA-4.0).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["file", "persona-hub", "created", "import"]
    name: Text
    licence: str | None = None


class Sampling(BaseModel):
    """Sampling settings that the teacher was asked to use.

    Attributes:
        temperature: of the replies.
        top_p: share of the probability that is sampled from.
        max_tokens: longest reply.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float
    top_p: float
    max_tokens: int


class Prompts(BaseModel):
    """Prompt of each step, as name/version#hash of its text; a step that was not run has none.

    Attributes:
        persona: that invented the persona.
        query: that asked for the query.
        reply: that asked for the replies.
        judge: that checked their levels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    persona: str | None = None
    query: str | None = None
    reply: str | None = None
    judge: str | None = None


class Provenance(BaseModel):
    """How a row was made.

    Attributes:
        persona: where its persona comes from.
        prompts: prompts of the steps that made it.
        teacher: model that wrote it.
        judge: model that checked its levels; None if unchecked.
        sampling: how the replies were sampled.
        seed: seed of the whole build; each request's own seed follows from it, the row's id, level and attempt.
        attempts: level to the number of replies that were asked for until one passed the gates.
        time: when the row's last answer came, ISO 8601, UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    persona: PersonaSource
    prompts: Prompts = Prompts()
    teacher: str | None = None
    judge: str | None = None
    sampling: Sampling | None = None
    seed: int | None = None
    attempts: Mapping[str, int] | None = None
    time: str | None = None


class PreferenceRow(BaseModel):
    """A persona's query and the reference replies to it, one per level.

    Rows of one persona always share a split, so a model is never tested on a persona it was trained on.

    Attributes:
        id: unique in its file.
        split: what the row is used for.
        domain: what the query is about.
        topic: a part of the domain.
        persona: who asks, in a sentence.
        query: what is asked.
        responses: level to reply, two levels or more; the order of the levels is not this mapping's but the domain's.
        provenance: how the row was made; null if nobody knows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    split: Split
    domain: Text
    topic: Text
    persona: Text
    query: Text
    responses: Mapping[str, Text]
    provenance: Provenance | None = None

    @field_validator("responses")
    @classmethod
    def _at_least_two_levels(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if len(value) < 2:
            raise ValueError("needs replies at two levels or more")
        return value
