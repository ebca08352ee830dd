"""Models, vectors and health, as OpenAPI tells them; tests hold the answers, plain objects, to these."""

from typing import Literal

from alignvec.serve.api.schema import Told
from alignvec.vectors.calibration import Calibration, Spillover
from alignvec.vectors.card import Measurement


class ModelInfo(Told):
    """A name that a request can give as its `model`."""

    id: str
    """The name, with any knobs in it, such as `demo:medical=expert`."""
    object: Literal["model"]
    """What this is."""
    created: int
    """Always 0."""
    owned_by: Literal["alignvec"]
    """Who serves it."""


class ModelList(Told):
    """The base model, and a name with a knob for each level of each vector that the key may ask for."""

    object: Literal["list"]
    """What this is."""
    data: list[ModelInfo]
    """The names."""


class Allowed(Told):
    """How far the request's key may turn a vector."""

    min: float
    """Lowest λ it may ask for."""
    max: float
    """Highest λ it may ask for."""
    default: float
    """λ of a request that does not name the vector."""
    forced: bool
    """The policy sets it; `min` and `max` are both that λ."""


class VectorInfo(Told):
    """One loaded vector."""

    name: str
    """The knob's name."""
    domain: str | None
    """What it is about."""
    levels: dict[str, float]
    """λ of each level."""
    usable_range: tuple[float, float] | None
    """λ that its card measured or calibrated; null: nothing was measured."""
    applied_range: tuple[float, float]
    """λ that requests are cut to."""
    key: Allowed | None
    """What the key may do with it; null: not turn it."""
    percent_curve: list[tuple[float, float]]
    """λ and share of the way from the base's behaviour to the highest level's: what a percentage is read off; empty: a
    percentage means nothing here."""
    measured: Measurement | None
    """The card's λ curve, by `alignvec sweep`."""
    calibration: Calibration | None
    """The card's calibration, by `alignvec calibrate`."""
    spillover: Spillover | None
    """What the knob changes in every domain, by `alignvec spillover`."""
    licence: str
    """Of the vector."""
    files: dict[str, str]
    """sha256 of each tensor file."""


class GoalInfo(Told):
    """A solved setting that requests can name."""

    goal: str
    """Its name, such as `medical=expert,legal=avoidance`."""
    knobs: dict[str, float | str]
    """Its knobs."""
    reached: bool | None
    """Whether it was reached where it was solved; null: the file does not say."""
    constraints: list[str]
    """Bounds it was solved under."""
    blocked_by: str | None
    """What stood in its way."""


class RouterInfo(Told):
    """The router in front of every knob."""

    domains: list[str]
    """What it can tell apart."""


class AlignmentInfo(Told):
    """Everything that can be asked for, as far as the key may know."""

    object: Literal["list"]
    """What this is."""
    model: str
    """Name of the base model here."""
    data: list[VectorInfo]
    """The vectors."""
    goals: list[GoalInfo]
    """Solved settings, of `alignvec serve --settings`."""
    router: RouterInfo | None
    """Null: every knob acts on every prompt."""
    strict: bool
    """A knob outside the applied range is refused instead of cut."""
    precedence: str
    """Which knob holds where several places name one, in words."""


class Status(Told):
    """That the server is well."""

    status: str
    """`ok` of /health, `ready` of /ready."""
