"""Which reply a rater sees next, and what becomes of the verdict; what it shows never tells the intended level."""

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from alignvec.data.load import levels_of
from alignvec.data.review.ratings import Rating
from alignvec.data.review.verdicts import Verdicts
from alignvec.data.schema import PreferenceRow


@dataclass(frozen=True)
class Reply:
    """A reply of a row, with the level it was written for."""

    row: PreferenceRow
    level: str

    @property
    def key(self) -> tuple[str, str]:
        """What a rating calls it: row id and level."""
        return self.row.id, self.level


@dataclass(frozen=True)
class Shown:
    """What a rater sees of a reply.

    Attributes:
        ticket: says which reply a verdict is about: a hash of the rater's whole queue, and the place in it.
        number: 1-based count of this reply among those the rater has judged.
        total: how many replies the rater's queue has.
        domain: domain of the row.
        query: the query.
        text: the reply.
        rated: whether the rater has judged it before.
        level: level that this rater chose before.
        flag: problem that this rater flagged before.
    """

    ticket: str
    number: int
    total: int
    domain: str
    query: str
    text: str
    rated: bool = False
    level: str | None = None
    flag: str | None = None


@dataclass(frozen=True)
class _Order:
    replies: Sequence[Reply]
    fingerprint: str


class ReviewQueue:
    """Every rater's own blind order through the same replies.

    Attributes:
        levels: levels to choose from, lowest first.
        total: how many replies each rater judges.
        verdicts: where verdicts are kept.
    """

    def __init__(
        self, rows: Sequence[PreferenceRow], verdicts: Verdicts, *, seed: int = 0, limit: int | None = None
    ) -> None:
        """Choose the replies: all, or `limit` of them, the same for every rater, of as many queries as possible."""
        self.levels = levels_of(rows)
        self.verdicts = verdicts
        self._seed = seed
        every = (Reply(row, level) for row in rows for level in self.levels)
        self._replies = spread(every, Random(seed))[:limit]
        self.total = len(self._replies)
        self._orders: dict[str, _Order] = {}
        self._skips: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def next(self, rater: str, *, after: str | None = None) -> Shown | None:
        """The reply to judge next; None if all are judged.

        Skipped replies come last, and one of the same query as `after` (a ticket) only if nothing else is left.
        """
        order, judged, skips = self._order(rater), self._judged(rater), self._skips[rater]
        waiting = [place for place, reply in enumerate(order.replies) if reply.key not in judged]
        if not waiting:
            return None
        before = self._place(rater, after)
        row = order.replies[before].row.id if before is not None else None
        place = min(waiting, key=lambda p: (order.replies[p].row.id == row, skips[p], p))
        return self._shown(rater, place, judged)

    def current(self, rater: str, ticket: str) -> Shown | None:
        """The reply of a ticket; None if the ticket is not of this rater's queue."""
        place = self._place(rater, ticket)
        return None if place is None else self._shown(rater, place, self._judged(rater))

    def back(self, rater: str, ticket: str) -> Shown | None:
        """The reply judged before the ticket's one, or the one judged last; None if there is none before."""
        judged = list(self._judged(rater))
        place = self._place(rater, ticket)
        here = self._order(rater).replies[place].key if place is not None else None
        before = judged[: judged.index(here)] if here in judged else judged
        if not before:
            return None
        places = {reply.key: number for number, reply in enumerate(self._order(rater).replies)}
        return self._shown(rater, places[before[-1]], self._judged(rater))

    def judge(self, rater: str, ticket: str, level: str | None, flag: str | None) -> bool:
        """Save a verdict; False, and nothing is saved, if the ticket is not of this rater's queue.

        Raises:
            DataError: if the ratings file has been spoilt meanwhile.
            StorageError: if it cannot be written.
        """
        place = self._place(rater, ticket)
        if place is None:
            return False
        row_id, shown_level = self._order(rater).replies[place].key
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.verdicts.save(Rating(rater=rater, id=row_id, shown_level=shown_level, level=level, flag=flag, time=now))
        return True

    def skip(self, rater: str, ticket: str) -> None:
        """Put the ticket's reply behind the others, until the server ends."""
        place = self._place(rater, ticket)
        if place is not None:
            self._skips[rater][place] += 1

    def rated(self, rater: str) -> int:
        """How many replies of the queue the rater has judged."""
        return len(self._judged(rater))

    def _order(self, rater: str) -> _Order:
        if rater not in self._orders:
            replies = spread(self._replies, Random(f"{self._seed} {rater}"))
            told = "\0".join((rater, *(reply.row.responses[reply.level] for reply in replies)))
            self._orders[rater] = _Order(replies, hashlib.sha256(told.encode()).hexdigest()[:16])
        return self._orders[rater]

    def _judged(self, rater: str) -> dict[tuple[str, str], Rating]:
        mine = {reply.key for reply in self._order(rater).replies}
        return {rating.reply: rating for rating in self.verdicts.of(rater) if rating.reply in mine}

    def _place(self, rater: str, ticket: str | None) -> int | None:
        order = self._order(rater)
        fingerprint, _, place = (ticket or "").partition("-")
        if fingerprint != order.fingerprint or not place.isdecimal() or int(place) >= len(order.replies):
            return None
        return int(place)

    def _shown(self, rater: str, place: int, judged: dict[tuple[str, str], Rating]) -> Shown:
        order = self._order(rater)
        reply = order.replies[place]
        mine = judged.get(reply.key)
        return Shown(
            ticket=f"{order.fingerprint}-{place}",
            number=(list(judged).index(reply.key) if mine else len(judged)) + 1,
            total=self.total,
            domain=reply.row.domain,
            query=reply.row.query,
            text=reply.row.responses[reply.level],
            rated=mine is not None,
            level=mine.level if mine else None,
            flag=mine.flag if mine else None,
        )


def spread(replies: Iterable[Reply], random: Random) -> list[Reply]:
    """Shuffle so that the replies of one query are far apart, and adjacent only where nothing else is possible.

    The query with most replies left goes first, ties by chance, never the same twice in a row if another is left.
    """
    left: defaultdict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        left[reply.row.id].append(reply)
    for of_query in left.values():
        random.shuffle(of_query)
    heap = [(-len(of_query), random.random(), row) for row, of_query in left.items()]
    heapq.heapify(heap)
    order: list[Reply] = []
    while heap:
        chosen = heapq.heappop(heap)
        if heap and order and order[-1].row.id == chosen[2]:
            chosen = heapq.heapreplace(heap, chosen)
        order.append(left[chosen[2]].pop())
        if left[chosen[2]]:
            heapq.heappush(heap, (-len(left[chosen[2]]), random.random(), chosen[2]))
    return order
