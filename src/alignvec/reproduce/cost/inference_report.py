"""Inference cost as tables."""

from alignvec.evaluate.table import Table
from alignvec.reproduce.cost.inference_record import NAMES, WAYS, Cost, InferenceCost
from alignvec.reproduce.cost.ways import Way

OTHERS: tuple[Way, ...] = ("knobs_3", "zero_shot", "three_shot")
SHARED: tuple[Cost, ...] = ("computed", "first_token", "per_token", "seconds")


def tables(result: InferenceCost) -> list[Table]:
    """For every batch size and way of caching: costs, and the knob's share of the other ways' costs; then prefixes."""
    found = []
    for (batch, cached), points in result.curves().items():
        where = f"batch {batch}, prefix caching {'on' if cached else 'off'}"
        costs, shares = [], []
        for point in points:
            for way in WAYS:
                tokens = [f"{result.spread(point, way, cost).median:.0f}" for cost in ("prompt", "computed")]
                costs.append(
                    (
                        str(point.system_tokens),
                        NAMES[way],
                        *tokens,
                        result.spread(point, way, "first_token").told(".3f"),
                        f"{result.spread(point, way, 'per_token').median:.4f}",
                        f"{result.spread(point, way, 'seconds').median:.2f}",
                    )
                )
            for way in OTHERS:
                computed, first, later, seconds = (result.share(point, way, cost) for cost in SHARED)
                shares.append(
                    (
                        str(point.system_tokens),
                        NAMES[way],
                        f"{computed.median:.2f}",
                        first.told(),
                        f"{later.median:.2f}",
                        seconds.told(),
                    )
                )
        rounds = len(points[0].rounds)
        found += [
            Table(
                title=f"{where}: medians of {rounds} rounds, {result.new_tokens} tokens a reply",
                columns=("system", "way", "prompt", "computed", "first token, s", "a token", "total, s"),
                rows=tuple(costs),
            ),
            Table(
                title=f"{where}: one knob's cost / the way's [least, most]",
                columns=("system", "way", "computed", "first token", "a token", "total"),
                rows=tuple(shares),
            ),
        ]
    return [*found, _claims(result), _prefixes(result)]


def _claims(result: InferenceCost) -> Table:
    rows = []
    for batch, cached in result.curves():
        for way in OTHERS[1:]:
            limits = [result.half_up_to(batch, cached, way, cost) for cost in ("prompt", *SHARED[1:])]
            told = ("never" if limit is None else str(limit) for limit in limits)
            rows.append((str(batch), "on" if cached else "off", NAMES[way], *told))
    return Table(
        title="longest system prompt up to which one knob costs at most half of the way",
        columns=("batch", "caching", "way", "prompt", "first token", "a token", "total"),
        rows=tuple(rows),
    )


def _prefixes(result: InferenceCost) -> Table:
    first = {point.system_tokens: point for point in sorted(result.points, key=lambda p: p.system_tokens)}
    same, compared = result.equal
    rows = tuple(
        (str(length), NAMES[way], str(point.prefix_tokens[way]), f"{point.prefix_bytes[way] / 2**20:.1f}")
        for length, point in first.items()
        for way in WAYS
    )
    return Table(
        title=f"prefix (of knobs: one a setting); replies equal to uncached: {same} of {compared}",
        columns=("system", "way", "tokens", "MiB of keys and values"),
        rows=rows,
    )
