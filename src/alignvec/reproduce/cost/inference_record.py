"""What asking for a level costs, as a record of rounds, and the arithmetic on them."""

from collections.abc import Mapping
from typing import Literal

from alignvec.provenance import Provenance
from alignvec.reproduce.cost.ways import Way, holds_up_to
from alignvec.reproduce.spread import Spread
from alignvec.vectors.strict import Strict

WAYS: tuple[Way, ...] = ("knob", "knobs_3", "zero_shot", "three_shot")
Cost = Literal["prompt", "computed", "first_token", "per_token", "seconds"]
COSTS: Mapping[Cost, str] = {
    "prompt": "prompt tokens",
    "computed": "prompt tokens computed",
    "first_token": "seconds to the first token",
    "per_token": "seconds per later token",
    "seconds": "seconds to the last token",
}
NAMES: Mapping[Way, str] = {
    "knob": "1 knob", "knobs_3": "3 knobs", "zero_shot": "zero-shot", "three_shot": "3-shot",
}  # fmt: skip


class Request(Strict):
    """One batch answered in one way.

    Attributes:
        prompt_tokens: of all rows, without padding.
        reused_tokens: of all rows, those that a cached prefix had.
        first: seconds until every row has its first token.
        later: seconds from there to the last token of every row.
    """

    prompt_tokens: int
    reused_tokens: int
    first: float
    later: float


class Point(Strict):
    """One system prompt, batch size and way of caching.

    Attributes:
        system_tokens: length of the system prompt that was asked for.
        batch: rows answered at once.
        cached: whether the constant prefix was computed beforehand.
        rounds: way to request; the ways of a round followed each other.
        equal_rows: way to rows of the first, unmeasured round whose tokens were the same with the prefix cached and
            not.
        prefix_tokens: way to tokens of the constant prefix.
        prefix_bytes: way to bytes of its keys and values, which every setting of the knobs has of its own.
    """

    system_tokens: int
    batch: int
    cached: bool
    rounds: tuple[dict[Way, Request], ...]
    equal_rows: dict[Way, int]
    prefix_tokens: dict[Way, int]
    prefix_bytes: dict[Way, int]


class InferenceCost(Strict):
    """Everything that was measured.

    Attributes:
        model: name of the base.
        knobs: settings of the two ways that have knobs.
        domain: of the queries.
        level: that is asked for.
        new_tokens: of every reply.
        dtype: of the weights.
        threads: of torch.
    """

    model: str
    knobs: dict[str, dict[str, float]]
    domain: str
    level: str
    new_tokens: int
    dtype: str
    threads: int
    seed: int
    points: tuple[Point, ...]
    provenance: Provenance

    def cost(self, point: Point, request: Request, cost: Cost) -> float:
        """One of `COSTS` of a request; tokens are means of its rows."""
        values: dict[Cost, float] = {
            "prompt": request.prompt_tokens / point.batch,
            "computed": (request.prompt_tokens - request.reused_tokens) / point.batch,
            "first_token": request.first,
            "per_token": request.later / (self.new_tokens - 1),
            "seconds": request.first + request.later,
        }
        return values[cost]

    def spread(self, point: Point, way: Way, cost: Cost) -> Spread:
        """A cost over the rounds."""
        return Spread.of([self.cost(point, one[way], cost) for one in point.rounds])

    def share(self, point: Point, way: Way, cost: Cost, *, knob: Way = "knob") -> Spread:
        """What the knob costs of what another way costs in the same round."""
        return Spread.of([self.cost(point, one[knob], cost) / self.cost(point, one[way], cost) for one in point.rounds])

    def curves(self) -> dict[tuple[int, bool], list[Point]]:
        """Points by batch size and caching, shortest system prompt first."""
        found: dict[tuple[int, bool], list[Point]] = {}
        for point in sorted(self.points, key=lambda p: (p.batch, p.cached, p.system_tokens)):
            found.setdefault((point.batch, point.cached), []).append(point)
        return found

    def half_up_to(self, batch: int, cached: bool, way: Way, cost: Cost) -> int | None:
        """Longest system prompt up to which the knob costs at most half of a way; None if it does not at the first."""
        points = self.curves()[batch, cached]
        return holds_up_to([(p.system_tokens, self.share(p, way, cost).median) for p in points])

    @property
    def equal(self) -> tuple[int, int]:
        """Rows whose tokens were the same with the prefix cached and not, and rows compared."""
        once = {(point.system_tokens, point.batch): point for point in self.points}
        compared = [(count, point.batch) for point in once.values() for count in point.equal_rows.values()]
        return sum(count for count, _ in compared), sum(of for _, of in compared)
