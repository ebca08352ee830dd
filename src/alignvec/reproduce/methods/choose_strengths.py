"""Strengths of a method, chosen on validation queries with the same number of candidates for every method."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from alignvec.data.gates.loop import is_degenerate
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.reproduce.methods.asking import Advance, Job, generate
from alignvec.reproduce.methods.strengths import Tunable
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval, Strict


class Tried(Strict):
    """One strength for one domain and level.

    Attributes:
        rate: of generated replies at that level and not degenerate, when the domain alone is asked for it.
        degenerate: share of replies that are empty or loop.
    """

    domain: str
    level: str
    strength: float
    rate: Interval
    degenerate: Interval


class Choice(Strict):
    """What was chosen, and how.

    Attributes:
        method: its name.
        amounts: that the candidates were made from.
        queries: domain to the number of validation queries.
        replies: that were judged: domains' queries × levels × candidates, the search budget.
        tried: every candidate.
        strengths: domain to level to the strength with the highest rate; of several the smallest, then the first.
    """

    method: str
    amounts: tuple[float, ...]
    queries: dict[str, int]
    replies: int
    tried: tuple[Tried, ...]
    strengths: dict[str, dict[str, float]]


class _Cell(NamedTuple):
    domain: str
    level: str
    strength: float


def choose_strengths(
    method: Tunable,
    rows: Sequence[PreferenceRow],
    judge: LevelJudge,
    *,
    amounts: Sequence[float],
    sampling: Sampling | None = None,
    journal: Journal,
    batch_size: int = 48,
    advance: Advance = lambda *_: None,
) -> Choice:
    """Try every candidate for every domain and level, one domain at a time, and keep the best.

    A reply counts if it is of the wanted level and not degenerate: a strength that breaks the text wins nothing.

    Args:
        method: at any strengths.
        rows: validation queries of all domains.
        judge: gives generated replies their level.
        amounts: see `Tunable.candidates`; as many for every method that is compared.
        sampling: how replies are decoded.
        journal: what it has is not generated again.
        batch_size: replies generated at once.
        advance: called with a task's name, what was done and the total.

    Raises:
        DataError: if a row is not of the validation split, or an amount is not positive.
    """
    if wrong := next((row for row in rows if row.split != "validation"), None):
        raise DataError(f"row {wrong.id} is of split {wrong.split!r}; strengths are chosen on validation rows alone")
    if not amounts or not all(0 < amount < float("inf") for amount in amounts):
        raise DataError(f"amounts {list(amounts)} to choose a strength from must be positive numbers")
    asked: dict[str, list[PreferenceRow]] = {}
    for row in rows:
        asked.setdefault(row.domain, []).append(row)
    candidates = {level: method.candidates(judge.levels, level, amounts) for level in judge.levels}
    cells, jobs = [], []
    for place in range(len(amounts)):  # of every domain and level the first, then the second: batches are full
        table = {d: {level: candidates[level][place] for level in judge.levels} for d in asked}
        turned = method.with_strengths(table)
        for domain, queries in asked.items():
            for level in judge.levels:
                cells += [_Cell(domain, level, candidates[level][place])] * len(queries)
                jobs += [Job(turned, row, {domain: level}) for row in queries]
    replies = generate(jobs, sampling or Sampling(), journal=journal, batch_size=batch_size, advance=advance)
    tried = _tried(cells, jobs, replies, judge)
    return Choice(
        method=method.name,
        amounts=tuple(amounts),
        queries={domain: len(found) for domain, found in asked.items()},
        replies=len(jobs),
        tried=tuple(tried),
        strengths={domain: {level: _best(tried, domain, level) for level in judge.levels} for domain in asked},
    )


def _tried(cells: Sequence[_Cell], jobs: Sequence[Job], replies: Sequence[str], judge: LevelJudge) -> list[Tried]:
    groups: Mapping[_Cell, list[int]] = {cell: [] for cell in cells}
    for i, cell in enumerate(cells):
        groups[cell].append(i)
    verdicts = judge.verdicts(replies)
    found = []
    for cell, places in groups.items():
        personas = [_persona(jobs[i]) for i in places]
        broken = [is_degenerate(replies[i]) for i in places]
        hits = [verdicts[i] == cell.level and not bad for i, bad in zip(places, broken, strict=True)]
        found.append(
            Tried(
                **cell._asdict(),
                rate=bootstrap_rate(list(map(float, hits)), personas),
                degenerate=bootstrap_rate(list(map(float, broken)), personas),
            )
        )
    return found


def _persona(job: Job) -> str:
    assert isinstance(job.row, PreferenceRow)
    return job.row.persona


def _best(tried: Sequence[Tried], domain: str, level: str) -> float:
    own = [one for one in tried if (one.domain, one.level) == (domain, level)]
    return min(own, key=lambda one: (-one.rate.value, abs(one.strength))).strength
