"""The card of a vector: what it is, which base it belongs to, how it was made, and what was measured."""

from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field

from alignvec.vectors.calibration import Calibration, Spillover
from alignvec.vectors.strict import Interval, Strict

FORMAT_VERSION: Final = 1
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""What a vector may be called, so that it can be written as a knob and as a folder."""

METHODS: Final = {
    "one-sided": "one-sided: λ·(θ₊ − θ_base)",
    "two-sided": "two-sided: λ·(θ₊ − θ₋)/2",
    "hinged": "hinged: λ > 0 adds λ·(θ₊ − θ_base), λ < 0 adds |λ|·(θ₋ − θ_base)",
}
"""What the well-known methods of a card do, in words."""


UNMEASURED: Final[dict[str, None]] = {"measured": None, "calibration": None, "spillover": None}
"""An update of a card whose tensors became others: what was measured on the old ones does not hold for them."""


class BaseReference(Strict):
    """The base model a vector belongs to.

    Attributes:
        name: `demo`, a folder or a hub id.
        fingerprint: see `alignvec.vectors.fingerprint`.
        template: hash of the chat template and vocabulary size.
        tokenizer: hash of the vocabulary and added tokens; missing in vectors made before it was recorded.
        licence: licence of the base model, where its folder states one.
    """

    name: str
    fingerprint: str
    template: str
    tokenizer: str | None = None
    licence: str | None = None


class CurvePoint(Strict):
    """Behaviour at one coefficient, on held-out queries.

    Attributes:
        coefficient: λ.
        preference_rate: kind of meter (`per_token`, `raw`, `implicit`) to level to rate.
        margin: mean implicit reward of the highest level over the lowest, nats per token.
        margin_sum: the same summed over each reply, nats.
        level_rate: level to share of generated replies that the judge assigns to it; empty if none were generated.
        degenerate: share of generated replies that are empty or loop; missing if none were generated.
    """

    coefficient: float
    preference_rate: dict[str, dict[str, Interval]]
    margin: Interval
    margin_sum: Interval
    level_rate: dict[str, Interval] = Field(default_factory=dict)
    degenerate: Interval | None = None


class Measurement(Strict):
    """A λ curve and what it was measured on.

    Attributes:
        data: name of the data and split.
        queries: number of queries.
        generation: sampling settings of the generated replies.
        judge: the judge's own accuracy, in words.
        curve: points by λ.
    """

    data: str
    queries: int
    generation: dict[str, Any]
    judge: str
    curve: Sequence[CurvePoint]


class Source(Strict):
    """How much the dtype of the checkpoints hides of a difference.

    Attributes:
        grid: the smallest dtype whose numbers the changed tensors of the aligned model consist of.
        zero_share: share of entries of the changed tensors that are exactly equal.
        delta_ulp: median of |Δ| over the spacing of the grid at the aligned weight, where Δ is not zero.
        left_out: tensors that a policy left out, or took in part.
        base_rounding: ‖round(θ_base) − θ_base‖/‖Δ‖ on that grid, over the changed tensors: how much of the difference
            the base's own rounding would make without any training; 0 where the base is on the grid too.
    """

    grid: Literal["float32", "bfloat16", "float16"]
    zero_share: float
    delta_ulp: float
    left_out: Sequence[str]
    base_rounding: float = 0.0

    def warning(self) -> str | None:
        """One line, if rounding has taken a visible part of the difference."""
        if self.grid != "float32" and self.base_rounding > 0.1:
            return (
                f"the aligned model was rounded to {self.grid} and the base was not: rounding the base alone would "
                f"make a difference of {self.base_rounding:.2f} times this vector's norm, so the vector is noise to "
                "that degree; extract from a float32 checkpoint or the adapter, or against a base rounded alike"
            )
        if self.grid == "float32" or (self.zero_share < 0.05 and self.delta_ulp > 4):
            return None
        return (
            f"the aligned model was rounded to {self.grid}, which hides small changes: {self.zero_share:.0%} of the "
            f"entries of the changed tensors are equal, and half of the others differ by no more than "
            f"{self.delta_ulp:.2g} of its steps; extract from float32 checkpoints or the adapter, if there are any"
        )


class Card(Strict):
    """Everything about a vector but its tensors; stored as `card.json`.

    Attributes:
        format_version: of this file; a reader that does not know it refuses the vector.
        name: the knob's name.
        domain: what the vector is about; data, judges and routers go by it.
        levels: of the domain, from the one that says least to the one that says most.
        form: `single` (one set of deltas, any sign), or `hinged` (one set for λ > 0, another for λ < 0).
        method: how the deltas came about: one-sided, two-sided, hinged, extracted.
        base: the model that the deltas belong to.
        settings: recommended coefficient of each level.
        recipe: resolved training recipe, with the seed.
        versions: of the packages that made the vector.
        measured: the λ curve that `alignvec sweep --card` measured.
        calibration: from λ to behaviour, with the usable range; what knobs are read by, if it is there.
        spillover: what the knob changes in every domain.
        source: of a difference of two checkpoints, how much their dtype hides.
        error: measured error of a lossy form (compression, storage dtype), by name.
        licence: of the vector.
        notes: anything else, for people.
        files: sha256 of each tensor file in the folder.
        tensors: for a file that is streamed, the xxh3 hash of each tensor's bytes.
    """

    format_version: Literal[1] = FORMAT_VERSION
    name: str = Field(pattern=NAME)
    domain: str | None = None
    levels: Sequence[str] = ()
    form: Literal["single", "hinged"]
    method: str
    base: BaseReference
    recipe: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, float] = Field(default_factory=dict)
    measured: Measurement | None = None
    calibration: Calibration | None = None
    spillover: Spillover | None = None
    source: Source | None = None
    error: dict[str, float] = Field(default_factory=dict)
    licence: str = "unknown"
    notes: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    tensors: dict[str, dict[str, str]] = Field(default_factory=dict)
