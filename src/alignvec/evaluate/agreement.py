"""How far judges agree on the same replies, which comes before any of them is trusted."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from alignvec.data.review.kappa import Agreement, Estimate, cohen, cohen_quadratic
from alignvec.evaluate.judging import Item, Verdict
from alignvec.vectors.strict import Strict

BOUND = 0.4
"""Where "moderate" agreement begins (Landis and Koch 1977); the whole interval of κ has to be above."""
MOST_MISSING = 0.2
"""Share of the read replies that a trusted judge may leave without a verdict."""


class Pair(Strict):
    """Two judges on the replies that have a level from both.

    Attributes:
        judges: the judge of the confusion's rows, then the one of its columns.
        agreement: share with the same level, and Cohen's κ; personas are resampled.
        weighted: κ weighted by squared distance, as levels are ordered.
        left_out: replies that either was to judge and that have no level from both.
        confusion: how many replies have each pair of levels, in the order of the levels.
    """

    judges: tuple[str, str]
    agreement: Agreement
    weighted: Estimate
    left_out: int
    confusion: tuple[tuple[int, ...], ...]


class Checked(Strict):
    """A judge against a reader on some replies.

    Attributes:
        replies: labelled replies with a verdict.
        missing: labelled replies without one.
        kappa: Cohen's κ.
        low: lower end of its 95 % interval; where judge and reader agree throughout, it follows from the exact
            interval of the share; None if it is unknown.
        trusted: whether `low` is not below the bound and at most `MOST_MISSING` of the labelled replies are missing.
    """

    replies: int
    missing: int
    kappa: Estimate
    low: float | None
    trusted: bool

    def told(self) -> str:
        """κ, its lower end and the replies, in a few words."""
        value = "missing" if self.kappa.value is None else f"{self.kappa.value:.2f}"
        low = "unknown" if self.low is None else f"{self.low:.2f}"
        lost = f" ({self.missing} more have no verdict)" if self.missing else ""
        return f"{value}, lower end {low}, on {self.replies} replies{lost}"


class Trust(Strict):
    """Whether a judge may be believed, by its agreement with a reader.

    Attributes:
        judge: the judge.
        reader: whose labels it is compared with.
        bound: what the lower end of κ must not be below.
        everywhere: on all labelled replies; those at the ends of λ are easy and lift it.
        middle: on those at neither the lowest nor the highest labelled λ of their domain.
    """

    judge: str
    reader: str
    bound: float
    everywhere: Checked
    middle: Checked

    def line(self) -> str:
        """One line for people."""
        found = f"{self.judge}: κ with {self.reader} {self.everywhere.told()}; in the middle {self.middle.told()}"
        if self.everywhere.trusted and self.middle.trusted:
            return f"{found}: not below the bound of {self.bound:g} anywhere"
        what = f"lower end needs {self.bound:g}, missing at most {MOST_MISSING:.0%}"
        where = " for the middle" if self.everywhere.trusted else " at all"
        return f"{found}: NOT TO BE TRUSTED{where} ({what})"


class JudgeAgreement(Strict):
    """Agreement of all judges.

    Attributes:
        levels: lowest first; the order of the confusions.
        pairs: every two judges.
        trust: every judge against every reader; empty without readers.
    """

    levels: tuple[str, ...]
    pairs: tuple[Pair, ...]
    trust: tuple[Trust, ...]


def agree(
    verdicts: Mapping[str, Sequence[Verdict]],
    items: Sequence[Item],
    levels: Sequence[str],
    *,
    readers: Collection[str] = (),
    bound: float = BOUND,
    seed: int = 0,
) -> JudgeAgreement:
    """Compare every two judges on the same items.

    Args:
        verdicts: judge to a verdict an item.
        items: what was judged; replies to one persona are resampled together.
        levels: lowest first.
        readers: judges whose verdicts are labels by reading.
        bound: lower end of κ from which a judge is trusted.
        seed: of the resampling.
    """
    personas = [f"{item.domain} {item.persona}" for item in items]
    pairs = {
        names: _pair(names, verdicts[names[0]], verdicts[names[1]], personas, levels, seed)
        for names in combinations(verdicts, 2)
    }
    trust = []
    for reader in readers:
        labelled = [i for i, one in enumerate(verdicts[reader]) if one.level is not None]
        middle = _middle(items, labelled)
        for judge in verdicts:
            if judge in readers:
                continue
            checked = [
                _check((judge, reader), verdicts, chosen, personas, levels, bound, seed)
                for chosen in (labelled, middle)
            ]
            trust.append(Trust(judge=judge, reader=reader, bound=bound, everywhere=checked[0], middle=checked[1]))
    return JudgeAgreement(levels=tuple(levels), pairs=tuple(pairs.values()), trust=tuple(trust))


def _pair(
    names: tuple[str, str],
    first: Sequence[Verdict],
    second: Sequence[Verdict],
    personas: Sequence[str],
    levels: Sequence[str],
    seed: int,
) -> Pair:
    index = {level: i for i, level in enumerate(levels)}
    both = [
        (persona, index[a.level], index[b.level])
        for persona, a, b in zip(personas, first, second, strict=True)
        if a.level is not None and b.level is not None
    ]
    groups, ours, theirs = (list(column) for column in zip(*both, strict=True)) if both else ([], [], [])
    cells = Counter(zip(ours, theirs, strict=True))
    asked = sum("not labelled" not in (a.missing, b.missing) for a, b in zip(first, second, strict=True))
    size = range(len(levels))
    return Pair(
        judges=names,
        agreement=cohen(groups, ours, theirs, len(levels), seed=seed),
        weighted=cohen_quadratic(groups, ours, theirs, len(levels), seed=seed).kappa,
        left_out=asked - len(both),
        confusion=tuple(tuple(cells[i, j] for j in size) for i in size),
    )


def _check(
    names: tuple[str, str],
    verdicts: Mapping[str, Sequence[Verdict]],
    chosen: Sequence[int],
    personas: Sequence[str],
    levels: Sequence[str],
    bound: float,
    seed: int,
) -> Checked:
    said, read = ([verdicts[name][i] for i in chosen] for name in names)
    found = _pair(names, said, read, [personas[i] for i in chosen], levels, seed)
    low, missing = _low(found.agreement, found.confusion), len(chosen) - found.agreement.replies
    return Checked(
        replies=found.agreement.replies,
        missing=missing,
        kappa=found.agreement.kappa,
        low=low,
        trusted=low is not None and low >= bound and missing <= MOST_MISSING * len(chosen),
    )


def _middle(items: Sequence[Item], labelled: Sequence[int]) -> list[int]:
    """Those of the labelled replies whose λ is neither the lowest nor the highest labelled one of their domain."""
    ends: dict[str, set[float]] = {}
    for domain in {items[i].domain for i in labelled}:
        values = [items[i].coefficient for i in labelled if items[i].domain == domain]
        ends[domain] = {min(values), max(values)}
    return [i for i in labelled if items[i].coefficient not in ends[items[i].domain]]


def _low(agreement: Agreement, confusion: Sequence[Sequence[int]]) -> float | None:
    """Lower end of κ; under full agreement that of the share, beyond what chance gives at the levels' frequencies."""
    share, kappa = agreement.share, agreement.kappa
    if kappa.value is None or share.value != 1.0 or share.low is None:
        return kappa.low
    total = sum(map(sum, confusion))
    chance = sum((row[i] / total) ** 2 for i, row in enumerate(confusion))
    return (share.low - chance) / (1 - chance)
