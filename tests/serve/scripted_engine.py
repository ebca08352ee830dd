"""An engine without a model: it says a given text with the tiny tokenizer, and keeps what was asked and closed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from alignvec.models import BaseModel
from alignvec.serve.engine.request import Job, Load, Step
from alignvec.steer.routed import domains_of
from alignvec.steer.scale import Scale, scale_of
from alignvec.vectors.card import Card
from alignvec.vectors.vector import AlignmentVector


@dataclass
class ScriptedEngine:
    """Says `text`.

    Attributes:
        base: its tokenizer is used.
        vectors: whose knobs can be named.
        text: what every reply says.
        error: raised after `fail_after` tokens.
        wait: raised tokens wait for this event after `wait_after` tokens.
    """

    base: BaseModel
    vectors: Sequence[AlignmentVector] = ()
    text: str = "Hello, wörld €!"
    context: int = 256
    alive: bool = True
    error: Exception | None = None
    fail_after: int = 0
    wait: asyncio.Event | None = None
    wait_after: int = 0
    jobs: list[Job] = field(default_factory=list)
    open: int = 0
    left_early: int = 0

    @property
    def scales(self) -> Mapping[str, Scale]:
        return {vector.name: scale_of(vector.card) for vector in self.vectors}

    @property
    def domains(self) -> Mapping[str, str]:
        return domains_of(self.vectors)

    @property
    def loaded(self) -> "ScriptedEngine":
        return self

    @property
    def cards(self) -> Mapping[str, Card]:
        return {vector.name: vector.card for vector in self.vectors}

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def load(self) -> Load:
        return Load(self.open, 0, 8, 0.5)

    async def reload(self, vectors: Sequence[AlignmentVector]) -> None:
        self.vectors = vectors

    async def stream(self, job: Job) -> AsyncIterator[Step]:
        self.jobs.append(job)
        self.open += 1
        done = False
        end = self.base.tokenizer.eos_token_id
        tokens = [*self.base.tokenizer(self.text)["input_ids"], end]
        most = job.sampling.max_new_tokens
        try:
            for i, token in enumerate(tokens[:most]):
                if self.error and i == self.fail_after:
                    raise self.error
                if self.wait and i == self.wait_after:
                    await self.wait.wait()
                await asyncio.sleep(0)
                finish = "stop" if token == end else "length" if i == most - 1 else None
                done = finish is not None
                top = [(token, -0.25), (65, -2.0)][: job.logprobs or 0]
                yield Step(token, None if job.logprobs is None else -0.25, top, finish)  # type: ignore[arg-type]
        finally:
            self.open -= 1
            self.left_early += not done
