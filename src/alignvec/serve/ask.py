"""What a caller asks the service for, and what it gets back piece by piece."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from alignvec.serve.engine.request import Step
from alignvec.serve.routing import Routing
from alignvec.serve.setting import Setting
from alignvec.steer.sampling import Sampling
from alignvec.steer.solved import SolvedSetting
from alignvec.vectors.vector import AlignmentVector

Finish = Literal["stop", "length"]
GONE = 499
"""Status of a request whose client went away, as in nginx."""
RELOAD = "/v1/alignment/reload"
METER = "meter"
"""What the audit log and the metrics call the page's preference meter."""


@dataclass(frozen=True)
class Options:
    """How a server behaves.

    Attributes:
        model: name the model is served under.
        strict: a knob outside the usable range is refused instead of cut.
        timeout: seconds a request may take.
        vectors: reads the vectors again from where the server was started with; None if they cannot be reloaded.
        page: the page is served at /.
        routing: turns the knobs of every request by what its prompt is about; None for none.
        goals: solved settings that requests may name.
    """

    model: str
    strict: bool = False
    timeout: float = 300.0
    vectors: Callable[[], Sequence[AlignmentVector]] | None = None
    page: bool = True
    routing: Routing | None = None
    goals: Mapping[str, SolvedSetting] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """A request for `n` replies to each of its prompts.

    Attributes:
        prompts: token ids; replies are numbered prompt by prompt.
        sampling: how to decode; a prompt's reply i uses seed + i.
        setting: the knobs, before a router.
        n: number of replies to a prompt.
        stop: strings that end a reply.
        logprobs: see `Job`.
        text: the prompts as text, for the audit log if it keeps prompts.
        user: turns that the user wrote, for the router.
        endpoint: path, for metrics and audit log.
        model: as the request names it, for the audit log.
    """

    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    setting: Setting
    n: int = 1
    stop: Sequence[str] = ()
    logprobs: int | None = None
    text: str = ""
    user: tuple[str, ...] = ()
    endpoint: str = "/v1/chat/completions"
    model: str = ""

    @property
    def choices(self) -> int:
        """Number of replies."""
        return len(self.prompts) * self.n

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts together."""
        return sum(map(len, self.prompts))


@dataclass(frozen=True)
class Incoming:
    """The HTTP request that is being answered: its id, and when it came (`time.monotonic`)."""

    id: str
    arrived: float


@dataclass(frozen=True)
class Piece:
    """The next part of one reply.

    Attributes:
        choice: number of the reply, from 0.
        text: new text; may be empty.
        steps: tokens since the piece before, the one that ended the turn included.
        setting: the knobs that are applied.
        finish: why the reply has ended; None if it goes on.
    """

    choice: int
    text: str
    steps: Sequence[Step]
    setting: Setting
    finish: Finish | None = None
