"""Goals and constraints as a user writes them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from alignvec.errors import ConfigError

Array = npt.NDArray[np.float64]

REACHED = 0.6
"""Rate that the wanted level needs in every domain, besides being the highest there, for a goal to be reached."""


@dataclass(frozen=True)
class Constraint:
    """A bound that a setting must keep.

    Attributes:
        domain: whose rate is bound; None for the perplexity of texts outside the domains.
        level: whose rate is bound.
        least: whether the bound is the lowest value allowed, or the highest.
        bound: of the rate, or a multiple of the base's perplexity.
    """

    domain: str | None
    level: str
    least: bool
    bound: float

    def __str__(self) -> str:
        what = f"{self.domain}={self.level}" if self.domain else "perplexity"
        return f"{what}{'>=' if self.least else '<='}{self.bound:g}"

    def miss(self, values: Array) -> Array:
        """By how much each value is on the wrong side; 0 or less where the constraint is kept."""
        return self.bound - values if self.least else values - self.bound


@dataclass(frozen=True)
class Goal:
    """A level for each domain.

    Attributes:
        wanted: domain to level.
        weights: domain to how much it counts; 1 where it is missing.
        constraints: bounds that its setting must keep.
    """

    wanted: Mapping[str, str]
    weights: Mapping[str, float]
    constraints: tuple[Constraint, ...] = ()

    @property
    def bounds_perplexity(self) -> bool:
        """Whether the perplexity of texts outside the domains must be known."""
        return any(constraint.domain is None for constraint in self.constraints)

    def __str__(self) -> str:
        return ",".join(f"{domain}={level}" for domain, level in self.wanted.items())


def parse_goals(
    texts: Sequence[str], domains: Sequence[str], levels: Sequence[str], weights: Sequence[str] = ()
) -> Goal:
    """A goal from parts such as `medical=expert`.

    Raises:
        ConfigError: if a part cannot be read, or names a domain or level that is not there.
    """
    wanted = _pairs(texts, "--goal", "medical=expert")
    for domain, level in wanted.items():
        if domain not in domains:
            raise ConfigError(f"--goal {domain}={level}: no domain {domain!r} (have: {', '.join(domains)})")
        if level not in levels:
            raise ConfigError(f"--goal {domain}={level}: no level {level!r} (have: {', '.join(levels)})")
    if not wanted:
        raise ConfigError(f"no goal; give one or more, such as --goal {domains[0]}={levels[-1]}")
    counted: dict[str, float] = {}
    for domain, text in _pairs(weights, "--weight", "medical=2").items():
        try:
            counted[domain] = float(text)
        except ValueError:
            counted[domain] = float("nan")
        if domain not in wanted or not 0 < counted[domain] < float("inf"):
            raise ConfigError(f"--weight {domain}={text}: weights are positive numbers for domains that have a goal")
    return Goal(wanted, counted)


def all_goals(domains: Sequence[str], levels: Sequence[str]) -> list[Goal]:
    """Every combination of levels: 27 for three domains of three levels."""
    return [Goal(dict(zip(domains, chosen, strict=True)), {}) for chosen in product(levels, repeat=len(domains))]


def parse_constraints(texts: Sequence[str], domains: Sequence[str], levels: Sequence[str]) -> tuple[Constraint, ...]:
    """Constraints such as `perplexity<=1.1`, `safety>=0.9` (rate of the highest level) or `medical=expert<=0.2`.

    Raises:
        ConfigError: if one cannot be read, or names a domain or level that is not there.
    """
    found = []
    for text in (part.strip() for given in texts for part in given.split(",")):
        match = re.fullmatch(r"([^=<>\s]+)(?:=([^=<>\s]+))?\s*(<=|>=)\s*(\d+\.?\d*|\.\d+)x?", text)
        if not match:
            raise ConfigError(f"--constraint: cannot read {text[:40]!r}; write it like perplexity<=1.1 or safety>=0.9")
        name, level, sign, number = match.groups()
        if name == "perplexity" and level is None:
            if sign == "<=" and float(number) <= 0:
                raise ConfigError(f"--constraint {text}: a perplexity is more than 0; bound it by a number such as 1.1")
            found.append(Constraint(None, "", sign == ">=", float(number)))
            continue
        if name not in domains or (level is not None and level not in levels):
            have = f"perplexity, {', '.join(domains)}; levels {', '.join(levels)}"
            raise ConfigError(f"--constraint {text}: there is nothing of this name here (have: {have})")
        if float(number) > 1:
            raise ConfigError(f"--constraint {text}: a rate is between 0 and 1; bound it by a number such as 0.9")
        found.append(Constraint(name, level or levels[-1], sign == ">=", float(number)))
    return tuple(found)


def check_consistent(goal: Goal) -> None:
    """Refuse a bound that leaves no room for the wanted level of its own domain.

    Raises:
        ConfigError: naming goal and bound.
    """
    for one in goal.constraints:
        if one.domain and goal.wanted.get(one.domain) == one.level and not one.least and one.bound < REACHED:
            raise ConfigError(
                f"--constraint {one}: the goal {one.domain}={one.level} needs a rate of at least {REACHED:g}; "
                "loosen the bound, or leave out one of the two"
            )


def _pairs(texts: Sequence[str], option: str, example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        match = re.fullmatch(r"\s*([^=\s]+)\s*=\s*([^=\s]+)\s*", part)
        if not match:
            raise ConfigError(f"{option}: cannot read {part[:40]!r}; write it like {example}")
        if match[1] in found:
            raise ConfigError(f"{option}: {match[1]} comes twice; name it once")
        found[match[1]] = match[2]
    return found
