"""A measured transfer as a record."""

from alignvec.evaluate.judge import JudgeReport
from alignvec.evaluate.transfer_kept import Kept, Origin
from alignvec.provenance import Provenance
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import BaseReference
from alignvec.vectors.strict import Interval, Strict


class Effect(Strict):
    """What one of the vectors does at one coefficient, against the stage at λ = 0.

    Attributes:
        origin: whether the vector was trained on this stage (`native`) or on another (`foreign`).
        coefficient: λ; 0 is the stage itself, told once, as native.
        margin: mean implicit reward of the highest level over the lowest, nats per token.
        level_rate: level to share of generated replies; empty if none were generated.
        degenerate: share of generated replies that are empty or loop; missing if none were generated.
    """

    origin: Origin
    coefficient: float
    margin: Interval
    level_rate: dict[str, Interval]
    degenerate: Interval | None


class Transfer(Strict):
    """Everything that `transfer.json` holds.

    Attributes:
        stage: the model that both vectors were turned on.
        fingerprint: of the stage.
        vector: the native vector's name.
        foreign_base: the stage that the foreign vector was trained on.
        files: sha256 of each vector's tensor files.
        data: the queries.
        levels: lowest first.
        queries: number of queries scored.
        generated: number of queries replied to at every setting.
        effects: by vector and coefficient.
        kept: shares of the native effect.
        cosines: cosine of the two weight changes at λ = 1 and λ = -1; None where one is zero.
        judge: the judge's own accuracy; None if nothing was generated.
    """

    stage: str
    fingerprint: str
    vector: str
    foreign_base: BaseReference
    files: dict[Origin, dict[str, str]]
    data: str
    levels: tuple[str, ...]
    queries: int
    generated: int
    sampling: Sampling
    effects: tuple[Effect, ...]
    kept: tuple[Kept, ...]
    cosines: dict[str, float | None]
    judge: JudgeReport | None
    provenance: Provenance
