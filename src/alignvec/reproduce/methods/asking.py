"""What methods say and how likely they find replies, journalled one by one and known by what a method does."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from alignvec.evaluate.generation import Asked
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.scope import rows_digest
from alignvec.models import BaseModel
from alignvec.reproduce.methods.method import Goal, Method
from alignvec.steer.sampling import Sampling
from alignvec.vectors.fingerprint import fingerprint

Advance = Callable[[str, int, int], None]


class Job(NamedTuple):
    """A query that a method is asked under a goal."""

    method: Method
    row: Asked
    goal: Goal


class Options(NamedTuple):
    """A query with replies to score."""

    id: str
    query: str
    replies: tuple[str, ...]


def methods_scope(base: BaseModel, sampling: Sampling, data: str, rows: Sequence[Any]) -> dict[str, Any]:
    """What a journal of methods depends on besides method, goal and row."""
    return {
        "sampling": sampling.model_dump(),
        "data": data,
        "rows": rows_digest(rows),
        "base": fingerprint(base.folder),
        "dtype": str(base.model.dtype),
    }


def generate(
    jobs: Sequence[Job],
    sampling: Sampling,
    *,
    journal: Journal,
    batch_size: int = 48,
    advance: Advance = lambda *_: None,
) -> list[str]:
    """The reply of every job, in their order.

    A batch has rows of one method under any goals, sorted by goal and query length. Goals that are the same to a
    method, or leave it the base, share replies.

    Args:
        jobs: what is asked.
        sampling: how replies are decoded.
        journal: what it has is not generated again.
        batch_size: replies generated at once.
        advance: called with a task's name, what was done and the total.
    """

    def ask(batch: Sequence[Job]) -> list[Any]:
        return list(batch[0].method.reply([j.row.query for j in batch], [j.goal for j in batch], sampling))

    return [str(reply) for reply in _each("reply", jobs, ask, journal, batch_size, advance)]


def score(
    method: Method,
    asked: Sequence[Options],
    goals: Sequence[Goal],
    *,
    journal: Journal,
    batch_size: int = 16,
    advance: Advance = lambda *_: None,
) -> list[list[list[float]]]:
    """Summed log-probabilities in nats, [goals][asked][replies]; arguments as for `generate`."""
    texts = {one.id: one.replies for one in asked}
    jobs = [Job(method, one, goal) for goal in goals for one in asked]

    def ask(batch: Sequence[Job]) -> list[Any]:
        found: list[Any] = method.score(
            [j.row.query for j in batch], [texts[j.row.id] for j in batch], [j.goal for j in batch]
        ).tolist()
        return found

    found = _each("choices", jobs, ask, journal, batch_size, advance)
    return [found[i * len(asked) : (i + 1) * len(asked)] for i in range(len(goals))]


def _each(
    task: str,
    jobs: Sequence[Job],
    ask: Callable[[Sequence[Job]], list[Any]],
    journal: Journal,
    batch_size: int,
    advance: Advance,
) -> list[Any]:
    known: dict[tuple[int, tuple[tuple[str, str], ...]], str] = {}

    def key_of(job: Job) -> str:
        place = (id(job.method), tuple(job.goal.items()))
        if place not in known:
            known[place] = job.method.key(job.goal)
        return f"{task} {known[place]} {job.row.id}"

    keys = [key_of(job) for job in jobs]
    groups: dict[int, dict[str, Job]] = {}
    for key, job in zip(keys, jobs, strict=True):
        if key not in journal:
            groups.setdefault(id(job.method), {})[key] = job
    missing = sum(map(len, groups.values()))
    advance(task, len(jobs) - missing, len(jobs))
    for group in groups.values():
        waiting = sorted(
            ((key, job) for key, job in group.items() if key not in journal),
            key=lambda one: (str(one[1].goal), len(one[1].row.query)),
        )
        advance(task, len(group) - len(waiting), len(jobs))  # what another method has said meanwhile
        for start in range(0, len(waiting), batch_size):
            batch = waiting[start : start + batch_size]
            for (key, _), value in zip(batch, ask([job for _, job in batch]), strict=True):
                journal.add(key, value)
            advance(task, len(batch), len(jobs))
    return [journal[key] for key in keys]
