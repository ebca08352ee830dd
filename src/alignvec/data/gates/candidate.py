"""What a quality gate sees, and the names that all gates share."""

from collections.abc import Callable
from dataclasses import dataclass

from alignvec.data.domain import Domain


@dataclass(frozen=True)
class Candidate:
    """A text that wants to become a persona, a query or a reply.

    Attributes:
        text: the text itself.
        domain: the domain it is for.
        level: the level a reply is meant to have; None for a persona or a query.
        query: the query a reply answers; None for a persona or a query.
        instructions: what its writer was told besides the domain's levels.
    """

    text: str
    domain: Domain
    level: str | None = None
    query: str | None = None
    instructions: tuple[str, ...] = ()


Gate = Callable[[Candidate], str | None]
"""Returns why a candidate is rejected, for people, in a few words; None if it passes."""
