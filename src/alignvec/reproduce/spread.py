"""Figures of repeated timings."""

import statistics

from alignvec.vectors.strict import Strict


class Spread(Strict):
    """Median of the rounds, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Spread of one value or more."""
        return cls(median=statistics.median(values), least=min(values), most=max(values))

    def told(self, form: str = ".2f") -> str:
        """Median, and least and most in brackets."""
        return f"{self.median:{form}} [{self.least:{form}},{self.most:{form}}]"
