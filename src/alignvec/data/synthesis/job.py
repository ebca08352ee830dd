"""What a run of a build is told, and what it tells while it runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alignvec.data.schema import PersonaSource
from alignvec.data.synthesis.settings import BuildSettings
from alignvec.data.teacher.batched import InProcess
from alignvec.data.teacher.budget import Limits, Prices
from alignvec.data.teacher.endpoint import Endpoint

Stage = Literal["personas", "queries", "rows"]
STAGES: tuple[Stage, ...] = ("personas", "queries", "rows")


@dataclass(frozen=True)
class PersonaChoice:
    """Personas that exist already.

    Attributes:
        texts: yields them.
        source: where they come from.
        by_keyword: whether only those with one of the domain's keywords are taken.
    """

    texts: Callable[[], Iterator[str]]
    source: PersonaSource
    by_keyword: bool


@dataclass(frozen=True)
class Job:
    """One run of a build.

    Attributes:
        settings: what the data is made of.
        out: folder of the build.
        personas: how many personas.
        endpoint: where the teacher is, behind a URL or in this process.
        judge_endpoint: where the judge is; None if it is where the teacher is.
        choice: personas that exist already; None to invent them.
        stages: the steps to do; an earlier step's result is read from the folder.
        prices: of tokens.
        limits: of spending.
        limit: use the first so many personas or queries of the folder only.
    """

    settings: BuildSettings
    out: Path
    personas: int
    endpoint: Endpoint | InProcess
    judge_endpoint: Endpoint | None = None
    choice: PersonaChoice | None = None
    stages: tuple[Stage, ...] = STAGES
    prices: Prices = field(default_factory=Prices)
    limits: Limits = field(default_factory=Limits)
    limit: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        made: stage to how many are finished.
        answers: answers that came over the network.
        cached: answers that were there already.
        tokens: spent in all.
        money: spent in all.
        seconds: since the start.
        held_back: seconds that the endpoint's rate limit still holds all requests back.
    """

    made: dict[str, int]
    answers: int
    cached: int
    tokens: int
    money: float
    seconds: float
    held_back: float
