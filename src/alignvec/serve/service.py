"""The one way from a request to the engine: limits, time, counting and the audit log are inside."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from jinja2 import TemplateError

from alignvec.serve.ask import Ask, Options, Piece
from alignvec.serve.engine.engine import Engine
from alignvec.serve.engine.request import Job, Step
from alignvec.serve.errors import BadRequestError, ServeError, TimedOutError, TooLongError, UnavailableError
from alignvec.serve.merged import merged
from alignvec.serve.metrics import Metrics
from alignvec.serve.policy.audit import AuditLog
from alignvec.serve.policy.limits import RateLimits
from alignvec.serve.policy.policy import Policy
from alignvec.serve.policy.rules import Rules
from alignvec.serve.resolve import resolve
from alignvec.serve.setting import Asked, Setting
from alignvec.serve.text import ReplyText

DEFAULT_TOKENS = 512
GONE = 499
"""Status of a request whose client went away, as in nginx."""


class Service:
    """Everything a request needs, shared by the API and the page."""

    def __init__(
        self, engine: Engine, policy: Policy, limits: RateLimits, audit: AuditLog, metrics: Metrics, options: Options
    ) -> None:
        self.engine = engine
        self.policy = policy
        self.limits = limits
        self.audit = audit
        self.metrics = metrics
        self.options = options
        self.draining = False
        self.active = 0
        self._tokenizing = threading.Lock()

    def rules(self, key: str | None) -> Rules:
        """What a key may do.

        Raises:
            UnauthorizedError: if the policy does not know it.
        """
        return self.policy.rules(key)

    def setting(self, rules: Rules, asked: Sequence[Asked]) -> Setting:
        """The knobs that are applied when these are asked for, lowest precedence first.

        Raises:
            BadRequestError: if a knob is unknown or cannot be read.
            ForbiddenError: if the key may not turn it that far.
        """
        return resolve(asked, self.engine.scales, rules, strict=self.options.strict)

    def require_ready(self) -> None:
        """Check that requests can be answered.

        Raises:
            UnavailableError: if the server is draining or its engine is dead.
        """
        if self.draining:
            raise UnavailableError("the server is shutting down; send the request to another one", retry_after=5)
        if not self.engine.alive:
            raise UnavailableError("the engine is not running; try again shortly", retry_after=5)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation (`role`, `content`) up to where the reply begins.

        Raises:
            BadRequestError: if the model's chat template refuses it.
        """
        turns = [{**m, "role": "system" if m["role"] == "developer" else m["role"]} for m in messages]
        try:
            with self._tokenizing:
                ids: list[int] = self._tokenizer.apply_chat_template(
                    turns, add_generation_prompt=True, tokenize=True, return_dict=False
                )
        except TemplateError as error:
            raise BadRequestError(f"the model's chat template refuses these messages: {error}", param="messages") from None
        return ids

    def text_prompt(self, text: str) -> list[int]:
        """Token ids of a plain prompt."""
        with self._tokenizing:  # fast tokenizers must not be called by two threads at once
            ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def reply_tokens(self, prompt: Sequence[int], rules: Rules) -> int:
        """Longest reply, in tokens, if a request does not say: what fits and is allowed, at most 512."""
        limits = [DEFAULT_TOKENS, self.engine.context - len(prompt), *([rules.max_tokens] if rules.max_tokens else [])]
        return max(min(limits), 1)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Hold back the end of the process while the block runs."""
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def reload(self) -> None:
        """Read the vectors again and swap them; running requests finish with the old ones.

        Raises:
            AlignvecError: if a vector cannot be read or does not fit model or policy; the old ones stay.
        """
        if self.options.vectors is None:
            raise BadRequestError("this server was started without places to read vectors from; restart it to change them")
        vectors = await asyncio.to_thread(self.options.vectors)
        self.policy.check({vector.name: scale_of(vector.card) for vector in vectors})
        await self.engine.reload(vectors)

    async def pieces(self, ask: Ask, rules: Rules) -> AsyncGenerator[Piece, None]:
        """The replies to a request, piece by piece as they come; leaving it early frees its rows at once.

        Raises:
            RateLimitedError, TooLongError, OverloadedError, UnavailableError, TimedOutError: before the first piece
                or later.
        """
        start, status = time.monotonic(), 500
        generated = 0
        first: float | None = None
        with self.busy():
            try:
                self._admit(ask, rules)
                replies = [self._reply(ask, choice) for choice in range(ask.n)]
                async with aclosing(merged(replies)) as items:
                    while (piece := await self._next(items, start)) is not None:
                        first = first or time.monotonic()
                        generated += len(piece.steps)
                        yield piece
                status = 200
            except (GeneratorExit, asyncio.CancelledError):
                status = GONE
                raise
            except ServeError as error:
                status = error.status
                raise
            finally:
                self._count(ask, status, generated, start, first)
                self.record(rules.name, ask.endpoint, status, ask, generated, time.monotonic() - start)
