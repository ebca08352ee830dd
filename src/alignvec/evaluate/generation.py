"""Generated replies to many queries under many settings, journalled one by one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from alignvec import processes
from alignvec.evaluate.journal import Journal
from alignvec.steer.knobs import Knobs, Turn, as_asked, format_knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling


class Asked(Protocol):
    """What is generated for: any row with a query."""

    @property
    def id(self) -> str:
        """Key of the row; another query has another."""

    @property
    def query(self) -> str:
        """What the user says."""


def generate_replies(
    model: KnobbedModel,
    rows: Sequence[Asked],
    settings: Sequence[Knobs],
    sampling: Sampling,
    *,
    journal: Journal,
    turn: Turn = as_asked,
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda _: None,
) -> list[list[str]]:
    """A reply for every setting and row, [settings][rows].

    Arguments and errors as for `generate_each`.
    """

    def ask(queries: Sequence[str], knobs: Sequence[Knobs]) -> list[str]:
        return model.generate(queries, knobs, sampling)

    table = generate_each(ask, rows, settings, journal=journal, turn=turn, batch_size=batch_size, advance=advance)
    return [[str(reply) for reply in column] for column in table]


def generate_each(
    ask: Callable[[Sequence[str], Sequence[Knobs]], Sequence[Any]],
    rows: Sequence[Asked],
    settings: Sequence[Knobs],
    *,
    journal: Journal,
    turn: Turn = as_asked,
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda _: None,
) -> list[list[Any]]:
    """What a model says to every row at every setting, [settings][rows].

    Rows of any setting share a batch, sorted by setting and query length, so that a batch ends at about one time;
    processes share out the batches. What the journal has is not generated again; settings that are the same for a row
    share its reply.

    Args:
        ask: what is said to queries, each at its knobs, in one batch, as JSON values.
        turn: what a setting becomes for one row, as a router turns it.
        advance: called with the number of replies done.

    Raises:
        DataError: if a query does not fit the model's context.
    """
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i].query))
    table = [[turn(i, knobs) for i in range(len(rows))] for knobs in settings]
    jobs = {reply_key(rows[i], cells[i]): (i, cells[i]) for cells in table for i in by_length}
    missing = [job for key, job in jobs.items() if key not in journal]
    advance(len(rows) * len(settings) - len(missing))
    for start in processes.share(range(0, len(missing), batch_size)):
        batch = missing[start : start + batch_size]
        replies = ask([rows[i].query for i, _ in batch], [knobs for _, knobs in batch])
        for (i, knobs), reply in zip(batch, replies, strict=True):
            journal.add(reply_key(rows[i], knobs), reply)
        advance(len(batch))
    advance(journal.exchange())
    return [[journal[reply_key(row, knobs)] for row, knobs in zip(rows, cells, strict=True)] for cells in table]


def reply_key(row: Asked, knobs: Knobs) -> str:
    """Key of a generated reply in the journal."""
    return f"reply {row.id} {format_knobs(knobs)}"
