"""Level rates of a run, read shard by shard: what is kept are counts by persona (or prompt), not replies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alignvec.data.gates.loop import is_degenerate
from alignvec.errors import DataError
from alignvec.evaluate.bulk.plan import MANIFEST, Plan, read_plan
from alignvec.evaluate.bulk.shards import Generated, read_shard, shard_path
from alignvec.evaluate.judge import JudgeReport, LevelJudge
from alignvec.evaluate.statistics import bootstrap_rates
from alignvec.provenance import Provenance, provenance
from alignvec.steer.knobs import format_knobs
from alignvec.vectors.strict import Interval, Strict

JUDGED_AT_ONCE = 1000


class SettingRates(Strict):
    """What was said at one setting to the prompts of one domain.

    Attributes:
        domain: of the prompts; None if they name none.
        knobs: vector to coefficient.
        replies: how many were judged.
        rate: level to its share, as the judge says; an empty reply has none.
        degenerate: share of replies that are empty or loop.
        cut: share of replies that did not end by themselves.
        same: share of replies that are those at the first setting of the run, word for word.
        tokens: mean length, as the engine counted.
    """

    domain: str | None
    knobs: dict[str, float]
    replies: int
    rate: dict[str, Interval]
    degenerate: Interval
    cut: Interval
    same: float
    tokens: float


class BulkRates(Strict):
    """Level rates of a run.

    Attributes:
        plan: of the run.
        replies: that were judged.
        missing: that the plan has and the shards have not.
        levels: names of the levels, lowest first.
        judge: the judge's own accuracy.
        rates: by domain and setting.
        notes: what a reader should know before believing them.
    """

    plan: Plan
    replies: int
    missing: int
    levels: tuple[str, ...]
    judge: JudgeReport
    rates: tuple[SettingRates, ...]
    notes: tuple[str, ...]
    provenance: Provenance


@dataclass
class _Counts:
    """Of one domain at one setting: persona to what is counted of the replies to it."""

    personas: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    tokens: int = 0

    def add(self, persona: str, values: Sequence[bool], tokens: int) -> None:
        """Count a reply; the first column counts all."""
        found = self.personas.get(persona)
        if found is None:
            found = self.personas[persona] = np.zeros(1 + len(values), dtype=np.float64)
        found += (True, *values)
        self.tokens += tokens


def bulk_rates(out: Path, judge: LevelJudge, *, advance: Callable[[int], None] = lambda _: None) -> BulkRates:
    """Judge the replies of a run, whole or not yet.

    Args:
        out: folder of the run.
        judge: gives replies their level.
        advance: called with the number of replies judged.

    Raises:
        DataError: if the folder holds no run, or no replies.
    """
    plan = read_plan(out)
    counts: dict[tuple[str | None, int], _Counts] = {}
    for block in range(-(-plan.prompts.count // plan.shard_size)):
        first: dict[str, str] = {}
        for setting in range(len(plan.settings)):
            replies = read_shard(shard_path(out, block, setting))
            while several := list(islice(replies, JUDGED_AT_ONCE)):
                for one, level in zip(several, judge.verdicts([one.reply for one in several]), strict=True):
                    if setting == 0:
                        first[one.id] = one.reply
                    same = first.get(one.id) == one.reply
                    said = level if one.reply.strip() else None
                    values = (*(said == v for v in judge.levels), is_degenerate(one.reply), not one.ended, same)
                    cell = counts.setdefault((one.domain, setting), _Counts())
                    cell.add(_who(one), values, one.tokens)
                advance(len(several))
    if not counts:
        raise DataError(f"no replies in {out} yet; `alignvec generate` writes them")
    order = sorted(counts, key=lambda key: (key[0] or "", key[1]))
    rates = tuple(_rates(plan, domain, setting, counts[domain, setting], judge.levels) for domain, setting in order)
    judged = sum(one.replies for one in rates)
    return BulkRates(
        plan=plan,
        replies=judged,
        missing=plan.replies - judged,
        levels=judge.levels,
        judge=judge.report,
        rates=rates,
        notes=tuple(_notes(plan, rates)),
        provenance=provenance(),
    )


def _who(one: Generated) -> str:
    """What is resampled together: a persona's replies, or, without one, those to a prompt."""
    return f"persona {one.persona}" if one.persona is not None else f"prompt {one.id}"


def _rates(plan: Plan, domain: str | None, setting: int, counts: _Counts, levels: Sequence[str]) -> SettingRates:
    table = np.stack([counts.personas[name] for name in sorted(counts.personas)])
    sizes = table[:, 0]
    found = bootstrap_rates(table[:, 1:], sizes)
    replies = int(sizes.sum())
    return SettingRates(
        domain=domain,
        knobs=plan.settings[setting],
        replies=replies,
        rate=dict(zip(levels, found, strict=False)),
        degenerate=found[len(levels)],
        cut=found[len(levels) + 1],
        same=found[len(levels) + 2].value,
        tokens=counts.tokens / replies,
    )


def _notes(plan: Plan, rates: Sequence[SettingRates]) -> Iterator[str]:
    first, *others = plan.settings
    turned = [one for one in rates if one.knobs != first]
    replied = {format_knobs(one.knobs) for one in turned}
    if others and len(replied) == len(others) and all(one.same == 1.0 for one in turned):
        yield (
            "every setting got the same replies, word for word: whoever answered seems to ignore the knobs "
            f"({MANIFEST} says who)"
        )
    if plan.answered_by.named:
        yield "knobs were sent in the model's name, where nothing proves that they were turned"
    if plan.answered_by.routed:
        yield "a router decided what was applied to each prompt: knobs are those that were asked for"
