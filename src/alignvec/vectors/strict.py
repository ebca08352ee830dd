"""What the records of a card have in common."""

from pydantic import BaseModel, ConfigDict, model_validator


class Strict(BaseModel):
    """A record that refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(Strict):
    """A measured value with its bootstrap 95 % interval.

    Attributes:
        value: what was measured.
        low: lower end; None where the interval is unknown, as one cluster (persona) alone cannot be resampled.
        high: upper end; None together with `low`.
    """

    value: float
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _both_ends(self) -> "Interval":
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends or none")
        return self

    @property
    def drawn(self) -> tuple[float, float]:
        """Both ends for a picture; the value itself where they are unknown, so that no width is drawn."""
        return (self.value, self.value) if self.low is None or self.high is None else (self.low, self.high)

    def told(self, form: str = ".2f", *, scale: float = 1.0, comma: str = ", ") -> str:
        """The value with its interval in brackets; without brackets where the interval is unknown.

        Args:
            form: format of each number.
            scale: what each is multiplied by; 100 for points.
            comma: what stands between the ends.
        """
        value = f"{scale * self.value:{form}}"
        if self.low is None or self.high is None:
            return value
        return f"{value} [{scale * self.low:{form}}{comma}{scale * self.high:{form}}]"
