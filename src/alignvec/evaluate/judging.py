"""What all judges of generated replies have in common: items in, a verdict each out; a missing one says why."""

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import model_validator

from alignvec.vectors.strict import Strict

Reason = Literal["empty reply", "unparsable", "inconsistent", "no answer", "tied", "not measured", "not labelled"]
"""Why a verdict is missing; `inconsistent`: another verdict when the levels were listed in the opposite order."""


class Item(Strict):
    """A generated reply to be judged.

    Attributes:
        row: id of the query's row.
        domain: of the row.
        persona: who asked; replies to one persona are resampled together.
        coefficient: λ that the reply was generated at.
        query: the question.
        reply: what was generated.
    """

    row: str
    domain: str
    persona: str
    coefficient: float
    query: str
    reply: str

    @property
    def key(self) -> tuple[str, float]:
        """What a label or a measurement finds the item by."""
        return self.row, self.coefficient


class Verdict(Strict):
    """A level, or why there is none.

    Attributes:
        level: one of the levels that were given; None if missing.
        missing: why.
        said: what the judge said, shortened, once a time it was asked.
    """

    level: str | None = None
    missing: Reason | None = None
    said: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> "Verdict":
        if (self.level is None) == (self.missing is None):
            raise ValueError("a verdict has a level, or a reason why it is missing")
        return self


class Judge(Protocol):
    """Gives generated replies a level each."""

    @property
    def name(self) -> str:
        """What its verdicts are listed under."""
        ...

    def judge(self, items: Sequence[Item], levels: Sequence[str]) -> list[Verdict]:
        """A verdict for every item, in their order.

        Args:
            items: replies.
            levels: names of the levels, lowest first.
        """
        ...

    def about(self) -> str:
        """One line for people on what it judges by, once it has judged."""
        ...
