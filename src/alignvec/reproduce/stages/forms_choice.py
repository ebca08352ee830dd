"""Which λ is best for a level, how far a form of a vector reaches, and which form that makes the default."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from alignvec.evaluate.statistics import highest_unseen, persona_weights, spread, spread_rate
from alignvec.vectors.strict import Interval

Case: TypeAlias = tuple[str, str, float]
"""Form, domain and λ."""


@dataclass(frozen=True)
class Heard:
    """Replies of one case, in the order of the domain's queries.

    Attributes:
        said: the judge's level of each.
        degenerate: whether each is empty or loops.
    """

    said: Sequence[str]
    degenerate: Sequence[bool]

    def good(self, level: str) -> npt.NDArray[np.float64]:
        """1 where a reply is of the level and not degenerate, else 0, [queries]."""
        pairs = zip(self.said, self.degenerate, strict=True)
        return np.array([float(one == level and not broken) for one, broken in pairs])


@dataclass(frozen=True)
class Choice:
    """What follows from the replies; see `stages.forms.Forms`."""

    best: dict[str, dict[str, dict[str, float]]]
    reach: dict[str, Interval]
    behind: dict[str, Interval]
    turned: dict[str, float]
    chosen: str


def choose(
    heard: Mapping[Case, Heard],
    personas: Mapping[str, Sequence[str]],
    levels: Sequence[str],
    turned: Callable[[str, float], float],
) -> Choice:
    """Choose the λ of every form, domain and level, and then the form.

    Of equal rates the λ nearest to 0 is taken. Of the forms whose reach the replies cannot tell from the highest (the
    95 % interval of the paired difference has 0 in it) the one is taken that turns the sides least, then the earliest.

    Args:
        heard: replies of every form in every domain at every λ.
        personas: domain to the persona of each of its queries.
        levels: of the replies.
        turned: how far a form at a λ turns both sides together.
    """
    strata = [domain for domain, own in personas.items() for _ in own]
    weights = persona_weights([one for own in personas.values() for one in own], strata)
    best: dict[str, dict[str, dict[str, float]]] = {}
    means, sizes = {}, {}
    counts = [len(set(own)) for own in personas.values()]
    people, fewest = sum(counts), min(counts)
    for form in dict.fromkeys(form for form, _, _ in heard):
        best[form] = {}
        rates, far = [], []
        for domain in personas:
            tried = {value: one for (f, d, value), one in heard.items() if (f, d) == (form, domain)}
            share = weights[:, [one == domain for one in strata]]
            best[form][domain] = {}
            for level in levels:
                good = {value: one.good(level) for value, one in tried.items()}
                value = max(good, key=lambda v: (good[v].mean(), -abs(v)))
                best[form][domain][level] = value
                rates.append(share @ good[value] / share.sum(axis=1))
                far.append(turned(form, value))
        means[form], sizes[form] = np.mean(rates, axis=0), float(np.mean(far))
    highest = max(means, key=lambda form: means[form][0])
    # rounded: the same rates in another order may differ in the last bit of their mean
    behind = {form: _gap(np.round(means[highest] - found, 9), fewest) for form, found in means.items()}
    tied = [form for form, gap in behind.items() if gap.value == 0 or (gap.low is not None and gap.low <= 0)]
    return Choice(
        best=best,
        reach={form: spread_rate(found, people, fewest) for form, found in means.items()},
        behind=behind,
        turned=sizes,
        chosen=min(tied, key=lambda form: round(sizes[form], 9)),
    )


def _gap(differences: npt.NDArray[np.float64], fewest: int) -> Interval:
    """A difference of reaches; where no resampling differs, as much may have been missed as of a domain's personas."""
    found = spread(differences, fewest)
    if found.low is None or found.high is None or found.value == 0 or found.high > found.low:
        return found
    slack = highest_unseen(fewest)
    return Interval(value=found.value, low=found.value - slack, high=found.value + slack)
