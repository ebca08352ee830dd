"""What the forms of a vector were measured to do."""

from alignvec.evaluate.judge import JudgeReport
from alignvec.vectors.strict import Interval, Strict


class FormPoint(Strict):
    """One form of a domain's vector at one λ.

    Attributes:
        said: level to rate of the generated replies, by the judge.
        preferred: level to share of queries whose reference reply of it is the likeliest per token.
        margin: implicit reward of the highest level over the lowest, nats a token.
        degenerate: share of the replies that are empty or loop.
    """

    form: str
    domain: str
    coefficient: float
    said: dict[str, Interval]
    preferred: dict[str, Interval]
    margin: Interval
    degenerate: Interval


class Forms(Strict):
    """What the stage has found.

    Attributes:
        data: the queries.
        queries: number of queries scored.
        replied: number of them that were replied to.
        best: form to domain to level to the λ at which most replies are of the level and not degenerate.
        reach: form to the mean of these rates over domains and levels; its interval takes the λ as given.
        behind: form to how far its reach is below the highest, with the interval of the paired difference.
        turned: form to how far it turns both sides together at these λ, |λ₊| + |λ₋|, mean over domains and levels.
        chosen: of the forms that are not behind for certain the one that turns least.
        judge: the judge's own accuracy.
    """

    data: str
    queries: int
    replied: int
    levels: tuple[str, ...]
    points: tuple[FormPoint, ...]
    best: dict[str, dict[str, dict[str, float]]]
    reach: dict[str, Interval]
    behind: dict[str, Interval]
    turned: dict[str, float]
    chosen: str
    judge: JudgeReport
