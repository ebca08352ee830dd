"""What every step of a build works with."""

from collections.abc import Callable
from dataclasses import dataclass

from alignvec.data.build.prompts import Messages
from alignvec.data.build.records import Rejected
from alignvec.data.build.settings import BuildSettings
from alignvec.data.schema import Sampling
from alignvec.data.teacher.client import Teacher
from alignvec.data.teacher.request import Answer, Request, derived_seed


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
    teacher: Teacher
    judge: Teacher | None
    window: int
    reject: Callable[[Rejected], None]

    async def write(self, messages: Messages, sampling: Sampling, *parts: object) -> Answer:
        """The teacher's answer, with a seed that follows from the build's seed and `parts`."""
        settings = self.settings
        return await self.teacher.ask(
            Request(
                model=settings.teacher,
                messages=messages,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                seed=derived_seed(settings.seed, *parts),
            )
        )
