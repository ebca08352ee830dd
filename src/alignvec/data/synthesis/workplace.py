"""What every step of a build works with."""

from collections.abc import Callable
from dataclasses import dataclass

from alignvec.data.schema import Sampling
from alignvec.data.synthesis.prompts import Messages, Step
from alignvec.data.synthesis.records import Rejected
from alignvec.data.synthesis.settings import BuildSettings
from alignvec.data.teacher.answering import Answering
from alignvec.data.teacher.request import Answer, Request, derived_seed

URGENCY: dict[Step, int] = {"judge": 0, "reply": 1, "query": 2, "persona": 3}
"""What is nearest to a finished row goes first: a run that is stopped early has spent least on what it cannot use."""


@dataclass(frozen=True)
class Workplace:
    """Settings, endpoints, and where rejected texts go.

    Attributes:
        settings: of the build.
        teacher: who writes.
        judge: who checks levels; None if nobody does.
        window: items of one step in hand at once.
        reject: told of every rejected text, in the order of the items.
    """

    settings: BuildSettings
    teacher: Answering
    judge: Answering | None
    window: int
    reject: Callable[[Rejected], None]

    async def write(
        self, step: Step, name: str, messages: Messages, sampling: Sampling, attempt: int, level: str = ""
    ) -> Answer:
        """The teacher's answer, with a seed that follows from the build's seed and what it is asked for.

        Args:
            step: which step asks.
            name: id of the persona, query or row.
            messages: the filled-in prompt.
            sampling: how to sample.
            attempt: from 0.
            level: of a reply.
        """
        settings = self.settings
        return await self.teacher.ask(
            Request(
                model=settings.teacher,
                messages=messages,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                seed=derived_seed(settings.seed, step, name, level, attempt),
            ),
            (URGENCY[step], name),
        )
