"""Goals and constraints as a user writes them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from alignvec.errors import ConfigError

REACHED = 0.6
"""Rate that the wanted level needs in every domain, besides being the highest there, for a goal to be reached."""


@dataclass(frozen=True)
class Goal:
    """A level for each domain.

    Attributes:
        wanted: domain to level.
        weights: domain to how much it counts; 1 where it is missing.
    """

    wanted: Mapping[str, str]
    weights: Mapping[str, float]

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
