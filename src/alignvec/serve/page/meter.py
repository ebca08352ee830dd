"""The preference meter: how likely the reference replies to a held-out question are under the knobs."""

from collections.abc import Mapping, Sequence
from html import escape
from math import floor

from alignvec.data.load import load_rows, shipped_file
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.vectors.card import Card


def reference_rows(cards: Mapping[str, Card]) -> Mapping[str, Sequence[PreferenceRow]]:
    """Domain to its held-out reference questions, for the vectors whose domain has shipped data."""
    found: dict[str, Sequence[PreferenceRow]] = {}
    for name, card in cards.items():
        domain = card.domain or name
        try:
            found[domain] = load_rows(shipped_file(domain), split="test")
        except DataError:
            continue  # a vector of the user's own: it has no meter
    return found


def meter_html(now: Mapping[str, float], base: Mapping[str, float]) -> str:
    """Table of the levels: log-likelihood per token (nats), and its difference to the base.

    Args:
        now: level to per-token log-likelihood under the knobs, nats.
        base: the same with all knobs at 0.
    """
    low = min(floor(min(*now.values(), *base.values())), -1)
    likeliest = max(now, key=lambda level: now[level])
    rows = "".join(
        f"<tr{' class=best' if level == likeliest else ''}>"
        f'<th scope="row">{escape(level)}{"<small>likeliest</small>" if level == likeliest else ""}</th>'
        f'<td class="bar"><span class="track" aria-hidden="true"><i style="width:{_share(value, low):.2%}"></i>'
        f'<b style="left:{_share(base[level], low):.2%}"></b></span></td>'
        f"<td>{value:.3f}</td><td>{value - base[level]:+.3f}</td></tr>"
        for level, value in now.items()
    )
    return (
        '<table class="meter"><thead><tr><th scope="col">reply</th>'
        f'<th scope="col" class="axis"><span>{low}</span><span>0</span></th>'
        '<th scope="col">nats per token</th><th scope="col">against base</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        "<p class=soft>Log-likelihood per token of each reference reply: the nearer to 0, the likelier. "
        "The line in a bar is where the base model is (all knobs at 0).</p>"
    )


def question_html(row: PreferenceRow) -> str:
    """The question, and its reference replies folded."""
    replies = "".join(f"<dt>{escape(level)}</dt><dd>{escape(text)}</dd>" for level, text in row.responses.items())
    return (
        f'<p class="query">{escape(row.query)}</p>'
        f"<details><summary>The reference replies</summary><dl>{replies}</dl></details>"
    )


def _share(value: float, low: float) -> float:
    return min(max((value - low) / -low, 0.0), 1.0)
