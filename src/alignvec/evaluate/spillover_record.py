"""Spillover as a record: what each knob changes in each domain."""

from typing import Any

from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.evaluate.judge import JudgeReport
from alignvec.provenance import Provenance
from alignvec.vectors.strict import Interval


class Shift(Record):
    """How rates of levels change against the base, as shares.

    Attributes:
        change: level to its rate minus the base's.
        size: mean of the changes' absolute values over the levels; noise adds to it, as it cannot cancel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    change: dict[str, Interval]
    size: Interval


class Cell(Record):
    """What one knob at one coefficient changes in the replies to one domain's queries.

    Attributes:
        knob: name of the vector.
        coefficient: λ.
        domain: of the queries.
        own: whether the knob is made for it.
        queries: their number.
        preference: of the likeliest reference replies per token.
        level: of generated replies; missing if none were generated.
        perplexity: of the queries' reference replies of the middle level, as a multiple of the base's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    knob: str
    coefficient: float
    domain: str
    own: bool
    queries: int
    preference: Shift
    level: Shift | None
    perplexity: Interval


class Summary(Record):
    """Means over the cells of all knobs and coefficients; without an interval if one of their domains has one persona.

    Attributes:
        spillover: mean size of the change of preference rates outside a knob's own domain.
        on_target: the same within it.
        spillover_level: as `spillover`, of the levels of generated replies.
        on_target_level: as `on_target`, of the levels of generated replies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spillover: Interval
    on_target: Interval
    spillover_level: Interval | None
    on_target_level: Interval | None


class Spillover(Record):
    """Everything that `spillover.json` holds.

    Attributes:
        data: the queries.
        routed: whether a router turned the knobs for each prompt.
        domains: of the queries, in the order of the columns.
        levels: lowest first.
        base_rates: domain to level to preference rate of the base.
        judge: the judge's own accuracy; None if nothing was generated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    routed: bool
    domains: tuple[str, ...]
    levels: tuple[str, ...]
    base_rates: dict[str, dict[str, float]]
    cells: tuple[Cell, ...]
    summary: Summary
    judge: JudgeReport | None
    sampling: dict[str, Any]
    provenance: Provenance
