"""The one way from a request to the engine: limits and time are inside, and every request is written down."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any, cast

from jinja2 import TemplateError

from alignvec.data.schema import PreferenceRow
from alignvec.errors import AlignvecError
from alignvec.serve.ask import METER, RELOAD, Ask, Options, Piece
from alignvec.serve.engine.engine import Engine
from alignvec.serve.engine.request import Job, Step
from alignvec.serve.errors import (
    BadRequestError,
    ForbiddenError,
    TimedOutError,
    TooLongError,
    UnavailableError,
)
from alignvec.serve.goals import check_goals
from alignvec.serve.ledger import Ledger
from alignvec.serve.merged import merged
from alignvec.serve.metrics import Metrics
from alignvec.serve.policy.audit import AuditLog, Entry
from alignvec.serve.policy.limits import RateLimits
from alignvec.serve.policy.policy import Policy
from alignvec.serve.policy.rules import Rules
from alignvec.serve.resolve import resolve_request
from alignvec.serve.setting import Asked, Setting
from alignvec.serve.tally import Tally
from alignvec.serve.text import ReplyText
from alignvec.steer.scale import scale_of

__all__ = ["Ask", "Options", "Piece", "Service"]

DEFAULT_TOKENS = 512


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
        self.ledger = Ledger(audit, metrics)
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
            BadRequestError: if a knob or goal is unknown or cannot be read.
            ForbiddenError: if the key may not turn it that far.
        """
        loaded = self.engine.loaded
        found = resolve_request(asked, self.options.goals, loaded.scales, rules, strict=self.options.strict)
        # a reload must not put other vectors under these numbers
        return found.model_copy(update={"vectors": loaded})

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
            raise BadRequestError(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from None
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

    async def reload(self, rules: Rules) -> None:
        """Read the vectors again and swap them; running requests finish with the old ones.

        Raises:
            ForbiddenError: if the key is no admin's.
            BadRequestError: if a vector cannot be read or does not fit model, policy or goals; the old ones stay.
        """
        with self._answering(self.ledger.entry(rules.name, RELOAD)):
            if not rules.admin:
                raise ForbiddenError("only an admin key may reload vectors; use one with admin: true in the policy")
            if self.options.vectors is None:
                raise BadRequestError(
                    "this server was started without places to read vectors from; restart it to change them"
                )
            try:
                vectors = await asyncio.to_thread(self.options.vectors)
                scales = {vector.name: scale_of(vector.card) for vector in vectors}
                self.policy.check(scales)
                check_goals(self.options.goals, scales)
                await self.engine.reload(vectors)
            except AlignvecError as error:
                raise BadRequestError(f"nothing was reloaded, the vectors are as before: {error}") from None

    async def pieces(self, ask: Ask, rules: Rules) -> AsyncGenerator[Piece, None]:
        """The replies to a request, piece by piece as they come; leaving it early frees its rows at once.

        Raises:
            RateLimitedError, TooLongError, OverloadedError, UnavailableError, TimedOutError: before the first piece
                or later.
        """
        tally = Tally(ask.choices)
        entry = self.ledger.entry(rules.name, ask.endpoint, ask.model or self.options.model, ask.setting)
        with self._answering(entry):
            try:
                self._admit(ask, rules)
                entry.alignment = setting = await self._routed(ask, rules, tally.start)
                replies = [self._reply(ask, choice, setting) for choice in range(ask.choices)]
                async with aclosing(merged(replies)) as items:
                    while (piece := await self._next(items, tally.start)) is not None:
                        tally.add(piece)
                        yield piece
            finally:
                self.ledger.measure(ask, tally)
                entry.prompt, entry.prompt_tokens, entry.completion_tokens = ask.text, ask.prompt_tokens, tally.tokens
                entry.reply, entry.finish = ["".join(parts) for parts in tally.texts], tally.finish

    async def preference(self, row: PreferenceRow, setting: Setting, rules: Rules) -> dict[str, dict[str, float]]:
        """Likelihood of a query's reference replies under a setting (`now`) and at λ = 0 (`base`); counts as a request.

        Raises:
            RateLimitedError: if the key has used up its requests.
            UnavailableError: if the server is draining.
            TimedOutError: if it takes too long.
        """
        with self._answering(self.ledger.entry(rules.name, METER, self.options.model, setting)):
            self.require_ready()
            self.limits.admit(rules)
            try:
                async with asyncio.timeout(self.options.timeout):
                    now = await self.engine.preference(row, setting.applied, setting.vectors)
                    return {"now": now, "base": await self.engine.preference(row, {}, setting.vectors)}
            except TimeoutError:
                raise TimedOutError(f"no likelihoods within {self.options.timeout:g} s; try again later") from None

    def refused(
        self, endpoint: str, key: str | None, error: AlignvecError | asyncio.CancelledError, model: str = ""
    ) -> None:
        """Write down a request that never got as far as `pieces` or `preference`; `key` is the name of its rules."""
        requested = error.requested if isinstance(error, ForbiddenError) else {}
        alignment = Setting(requested=dict(requested)) if requested else None
        with (
            suppress(AlignvecError, asyncio.CancelledError),
            self._answering(self.ledger.entry(key, endpoint, model, alignment)),
        ):
            raise error

    @property
    def _tokenizer(self) -> Any:
        return self.engine.base.tokenizer

    def _admit(self, ask: Ask, rules: Rules) -> None:
        self.require_ready()
        if ask.choices > (room := self.engine.load().room):
            raise BadRequestError(
                f"{ask.choices} replies are wanted, but the server has room for {room}; ask for fewer", param="n"
            )
        if self.options.routing is not None and len(ask.prompts) > 1:
            raise BadRequestError(
                "this server has a router, which gives each prompt a setting of its own; send one prompt a request",
                param="prompt",
            )
        self.limits.admit(rules, ask.choices)
        wanted = ask.sampling.max_new_tokens
        if rules.max_tokens is not None and wanted > rules.max_tokens:
            raise TooLongError(
                f"max_tokens is {wanted}, but this key may have at most {rules.max_tokens}; ask for fewer",
                param="max_tokens",
            )
        if (longest := max(map(len, ask.prompts))) + wanted > self.engine.context:
            raise TooLongError(
                f"the prompt has {longest} tokens and the reply may have {wanted}, but both together must fit "
                f"{self.engine.context}; shorten the prompt or lower max_tokens"
            )

    async def _routed(self, ask: Ask, rules: Rules, start: float) -> Setting:
        if self.options.routing is None:
            return ask.setting
        load = self.engine.load()
        room = load.room - load.running - load.waiting
        try:
            async with asyncio.timeout(start + self.options.timeout - time.monotonic()):
                return await self.options.routing.turned(ask.setting, ask.user, rules, room)
        except TimeoutError:
            raise TimedOutError(
                f"the router has not read the prompt within {self.options.timeout:g} s; try again later"
            ) from None

    async def _next(self, items: AsyncGenerator[tuple[int, Piece], None], start: float) -> Piece | None:
        try:
            async with asyncio.timeout(start + self.options.timeout - time.monotonic()):
                return (await anext(items))[1]
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise TimedOutError(
                f"no complete reply within {self.options.timeout:g} s; ask for fewer tokens, or try again later"
            ) from None

    async def _reply(self, ask: Ask, choice: int, setting: Setting) -> AsyncGenerator[Piece, None]:
        prompt = ask.prompts[choice // ask.n]
        sampling = ask.sampling.model_copy(update={"seed": ask.sampling.seed + choice % ask.n})
        job = Job(prompt, sampling, setting.applied, ask.logprobs, setting.vectors)
        text = ReplyText(self._tokenizer, prompt, ask.stop)
        steps: list[Step] = []
        async with aclosing(cast(AsyncGenerator[Step, None], self.engine.stream(job))) as stream:
            async for step in stream:
                steps.append(step)
                new = "" if step.finish == "stop" else text.push(step.token)
                if step.finish and not text.stopped:
                    new += text.finish()
                finish = "stop" if text.stopped else step.finish
                if new or finish:
                    yield Piece(choice, new, steps, setting, finish)
                    steps = []
                if finish:
                    return

    @contextmanager
    def _answering(self, entry: Entry) -> Iterator[None]:
        """Hold back the end of the process, then count and write down how the block ended."""
        with self.ledger.answering(entry), self.busy():
            yield
