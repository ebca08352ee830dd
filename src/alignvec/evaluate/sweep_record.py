"""What a sweep measured: the curve, and the replies behind it."""

from pydantic import BaseModel, ConfigDict

from alignvec.evaluate.judge import JudgeReport
from alignvec.provenance import Provenance
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import CurvePoint, Measurement


class Reply(BaseModel):
    """A generated reply with the judge's verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    query: str
    coefficient: float
    reply: str
    level: str
    degenerate: bool


class SweepResult(BaseModel):
    """Everything a sweep measured, as stored in `sweep.json`.

    Attributes:
        vector: the knob's name.
        data: name of the data file and split.
        queries: number of queries scored; their personas are the unit of the intervals.
        generated: number of queries replied to at every λ.
        curve: one point a λ.
        judge: the judge's own accuracy; None if nothing was generated.
        replies: the generated replies; stored beside, in `replies.jsonl`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vector: str
    base: str
    data: str
    levels: tuple[str, ...]
    queries: int
    generated: int
    sampling: Sampling
    curve: tuple[CurvePoint, ...]
    judge: JudgeReport | None
    replies: tuple[Reply, ...] = ()
    provenance: Provenance

    def measurement(self) -> Measurement:
        """The part of it that a card keeps."""
        return Measurement(
            data=self.data,
            queries=self.queries,
            generation={"queries": self.generated, **self.sampling.model_dump()},
            judge=self.judge.summary() if self.judge else "no replies were generated",
            curve=self.curve,
        )
