"""What a reply looks like on the review page, as HTML; all text from data or raters is escaped."""

from collections.abc import Mapping
from html import escape

from alignvec.data.review.queue import Shown

WELCOME = "<p class='notice' role='status'>Type your name above to begin.</p>"


def card(shown: Shown, notice: str = "") -> str:
    """Query and reply, with the rater's own earlier verdict if there is one, and a notice above them."""
    notices = [notice] if notice else []
    if shown.rated:
        parts = [part for part in (shown.level, shown.flag and f"problem: {shown.flag}") if part]
        notices.append(f"You said: {', '.join(parts)}. Choose again to change it, or skip to leave it.")
    return (
        _status(*notices)
        + f"<h2>Query <span class='domain'>{escape(shown.domain)}</span></h2><p class='query'>{escape(shown.query)}</p>"
        + f"<h2>Reply</h2><p class='reply'>{escape(shown.text)}</p>"
    )


def finished(total: int, notice: str = "") -> str:
    """Thanks for the last verdict."""
    thanks = f"You have judged all {total} replies. Thank you. Back changes the last verdict; you can close this page."
    return _status(*filter(None, (notice, thanks)))


def progress(done: int, total: int, label: str) -> str:
    """A bar and its label."""
    bar = f"<div class='bar'><i style='width: {100 * done / total:.1f}%'></i></div>"
    return f"<span role='progressbar' aria-valuenow='{done}' aria-valuemax='{total}'>{escape(label)}</span>{bar}"


def reminder(definitions: Mapping[str, str]) -> str:
    """Levels and their definitions, folded away; empty if there are none."""
    lines = [f"<dt>{escape(level)}</dt><dd>{escape(text)}</dd>" for level, text in definitions.items()]
    return f"<details><summary>What the levels mean</summary><dl>{''.join(lines)}</dl></details>" if lines else ""


def _status(*notices: str) -> str:
    return "".join(f"<p class='notice' role='status'>{escape(notice)}</p>" for notice in notices)
