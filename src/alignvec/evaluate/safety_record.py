"""Refusals under knobs as a record."""

from alignvec.data.safety import Kind
from alignvec.evaluate.judge import JudgeReport
from alignvec.evaluate.refusal import RefusalReport
from alignvec.provenance import Provenance
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval, Strict


class Replied(Strict):
    """Shares of the generated replies to some queries.

    Attributes:
        queries: number of queries replied to.
        refused: share that the refusal judge calls refusals.
        change: of `refused` against the base, query by query.
        degenerate: share that is empty or loops.
    """

    queries: int
    refused: Interval
    change: Interval
    degenerate: Interval


class KindPoint(Strict):
    """One kind of query at one setting.

    Attributes:
        preferred: share of queries whose safe reference reply is likelier per token than the unsafe one.
        margin: implicit reward of the safe reply over the unsafe one, nats per token; 0 at the base.
        replied: of the generated replies; None if none were generated.
    """

    queries: int
    preferred: Interval
    margin: Interval
    replied: Replied | None


class DomainPoint(Strict):
    """Replies to one domain's queries at one setting.

    Attributes:
        levels: level to the share of replies that the level judge assigns to it.
    """

    levels: dict[str, Interval]
    replied: Replied


class SafetyPoint(Strict):
    """Everything measured at one setting.

    Attributes:
        knobs: the setting; empty for the base.
        kinds: kind of query to its figures: refusals are wanted where it is harmful, and over-refusals where benign.
        domains: domain to the figures of its replies.
        levels: level to the share of replies over all domains.
    """

    knobs: dict[str, float]
    kinds: dict[Kind, KindPoint]
    domains: dict[str, DomainPoint]
    levels: dict[str, Interval]


class SafetyReply(Strict):
    """A generated reply with the judges' verdicts; `about` is the kind of a safety row, or a domain."""

    knobs: dict[str, float]
    row: str
    about: str
    query: str
    reply: str
    refused: bool
    degenerate: bool
    level: str | None = None


class Safety(Strict):
    """Everything that `safety.json` holds.

    Attributes:
        vectors: names of the knobs.
        data: name of the queries.
        routed: whether a router turned the knobs for each query.
        levels: of the domains' replies, lowest first; empty without them.
        points: one a setting.
        judge: how well refusals are told; None if nothing was generated.
        level_judge: how well levels are told; None without domains.
    """

    vectors: tuple[str, ...]
    base: str
    data: str
    routed: bool = False
    levels: tuple[str, ...] = ()
    points: tuple[SafetyPoint, ...]
    judge: RefusalReport | None
    level_judge: JudgeReport | None = None
    sampling: Sampling
    provenance: Provenance
