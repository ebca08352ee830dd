"""What solving took: seconds of measuring settings on the model, of fitting the surface and of searching it."""

from collections.abc import Callable

from alignvec.vectors.strict import Strict

Clock = Callable[[], float]


class Phase(Strict):
    """One kind of measurement.

    Attributes:
        seconds: that this process measured for.
        made: measurements that it made in them.
        reused: others that it needed and found in the journal of an earlier process.
    """

    seconds: float = 0.0
    made: int = 0
    reused: int = 0

    def __add__(self, other: "Phase") -> "Phase":
        return Phase(
            seconds=self.seconds + other.seconds, made=self.made + other.made, reused=self.reused + other.reused
        )

    @property
    def whole(self) -> float | None:
        """Seconds of all measurements, those found in the journal at the pace of those made; None if none was made."""
        if not self.reused:
            return self.seconds
        return self.seconds * (self.made + self.reused) / self.made if self.made else None


class SolveSeconds(Strict):
    """Wall-clock seconds of a solution.

    Attributes:
        scoring: likelihoods of reference replies, and of texts outside the domains.
        generating: replies, and the judge's verdicts on them.
        fitting: the surface, in all rounds.
        searching: the best settings of all goals, in all rounds, and what blocks goals that are not reached.
    """

    scoring: Phase
    generating: Phase
    fitting: float
    searching: float

    @property
    def evaluations(self) -> float | None:
        """Seconds of all evaluations; None if a kind of them was found in a journal altogether."""
        scoring, generating = self.scoring.whole, self.generating.whole
        return None if scoring is None or generating is None else scoring + generating
