"""Generated replies to many queries under many settings, journalled one by one."""

from collections.abc import Callable, Sequence

from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.journal import Journal
from alignvec.steer.knobs import Knobs, format_knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling


def generate_replies(
    model: KnobbedModel,
    rows: Sequence[PreferenceRow],
    settings: Sequence[Knobs],
    sampling: Sampling,
    *,
    journal: Journal,
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda _: None,
) -> list[list[str]]:
    """A reply for every setting and row, [settings][rows].

    Rows of any setting share a batch, sorted by setting and query length, so that a batch ends at about one time. What
    the journal has is not generated again.

    Args:
        advance: called with the number of replies done.

    Raises:
        DataError: if a query does not fit the model's context.
    """
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i].query))
    jobs = [(i, knobs) for knobs in settings for i in by_length]
    missing = [job for job in jobs if reply_key(rows[job[0]], job[1]) not in journal]
    advance(len(jobs) - len(missing))
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        replies = model.generate([rows[i].query for i, _ in batch], [knobs for _, knobs in batch], sampling)
        for (i, knobs), reply in zip(batch, replies, strict=True):
            journal.add(reply_key(rows[i], knobs), reply)
        advance(len(batch))
    return [[str(journal[reply_key(row, knobs)]) for row in rows] for knobs in settings]


def reply_key(row: PreferenceRow, knobs: Knobs) -> str:
    """Key of a generated reply in the journal."""
    return f"reply {row.id} {format_knobs(knobs)}"
