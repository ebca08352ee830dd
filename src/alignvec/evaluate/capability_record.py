"""What knobs cost, as a record: perplexity, questions answered and instructions followed over λ."""

from alignvec.provenance import Provenance
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval, Strict


class Measured(Strict):
    """A figure at one setting, and against the base over the same items.

    Attributes:
        value: perplexity, or a share of the items.
        change: of a perplexity, its multiple of the base's; of a share, its difference from the base's.
    """

    value: Interval
    change: Interval


class Cost(Strict):
    """What a model can do at one setting.

    Attributes:
        knobs: the setting; empty for the base.
        perplexity: of the general text.
        answers: share of questions whose right choice, written out, has the highest log-probability per token.
        letters: share of questions whose right letter is the likeliest, after the lettered choices.
        followed: share of instructions whose generated reply passes its checks.
    """

    knobs: dict[str, float]
    perplexity: Measured
    answers: Measured
    letters: Measured
    followed: Measured


class Said(Strict):
    """A generated reply to an instruction, and whether it follows it."""

    knobs: dict[str, float]
    item: str
    reply: str
    followed: bool


MEASURES = ("perplexity", "answers", "letters", "followed")
"""Figures of a cost, in the order of the tables."""


class Capability(Strict):
    """Everything that `capability.json` holds.

    Attributes:
        vector: the knob's name.
        data: names of the items.
        text: number of pieces of general text.
        questions: number of questions with four choices.
        instructions: number of instructions.
        curve: one cost for each λ, in ascending order.
    """

    vector: str
    base: str
    data: str
    text: int
    questions: int
    instructions: int
    sampling: Sampling
    curve: tuple[Cost, ...]
    provenance: Provenance

    def coefficients(self) -> list[float]:
        """λ of every entry of the curve."""
        return [cost.knobs.get(self.vector, 0.0) for cost in self.curve]


def measured(cost: Cost, name: str) -> Measured:
    """One of `MEASURES`."""
    found: Measured = getattr(cost, name)
    return found
