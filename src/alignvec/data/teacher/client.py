"""A teacher behind any OpenAI-compatible endpoint: bounded, patient, paid for once."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2
import openai

from alignvec.data.teacher.answering import Answering, NoAnswerError
from alignvec.data.teacher.budget import Budget
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.completion import Completion, UnusableError, read_completion
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.data.teacher.pace import Pace, backoff
from alignvec.data.teacher.request import Answer, Request
from alignvec.data.teacher.slots import Slots, Urgency
from alignvec.errors import AlignvecError, TeacherError

LARGEST_ANSWER = 4 << 20
"""Bytes of an HTTP answer that are read; a longer one is cut off and asked for again."""

PATIENCE = 1800.0
"""Seconds that a request may be turned away for rate limits before the run is stopped."""


Check = Callable[[Request, Completion], None]
"""Raises what is wrong with an answer that is a completion, but not one to this request."""


class Teacher(Answering):
    """Asks an endpoint, through a cache and within a budget.

    Attributes:
        retries: cause to the number of attempts that failed of it.

    Args:
        endpoint: where and how.
        cache: answers that are there already, and where new ones go.
        budget: what it may cost.
        check: looks at every answer before it is kept.

    Raises:
        ConfigError: if the endpoint's URL or key is none.
    """

    def __init__(
        self, endpoint: Endpoint, cache: AnswerCache, budget: Budget, *, check: Check = lambda *_: None
    ) -> None:
        super().__init__(cache, budget, endpoint.in_flight)
        self._endpoint = endpoint
        self._check = check
        self._pace = Pace()
        self._slots = Slots(endpoint.in_flight)
        self._failed_in_a_row = 0
        self._stopped: TeacherError | None = None
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key,
            max_retries=0,
            timeout=endpoint.timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=httpx2.Limits(max_connections=endpoint.in_flight, max_keepalive_connections=endpoint.in_flight)
            ),
        )

    @property
    def held_back(self) -> float:
        """Seconds that the endpoint's limits still hold all requests back."""
        return self._pace.left

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _fresh(self, request: Request, urgency: Urgency) -> Answer:
        try:
            answer = await self._insist(request, urgency)
        except TeacherError as error:  # it would meet those that wait as well, and be paid for
            self._stopped = error
            raise
        self._failed_in_a_row = 0
        return answer

    async def _insist(self, request: Request, urgency: Urgency) -> Answer:
        failed, fault, turned_away = 0, _Fault("", ""), 0.0
        while failed < self._endpoint.attempts:
            if failed and not turned_away:
                await asyncio.sleep(backoff(failed))
            async with self._slots.held(urgency), self.budget.reserved(request):
                await self._pace.ready()
                if self._stopped is not None:
                    raise self._stopped
                answer = await self._attempt(request)
                if isinstance(answer, Answer):
                    self._keep(request, answer)
                    self._slots.widen()
                    return answer
            fault = answer
            self.retries[fault.cause] += 1
            if not fault.turned_away:
                failed, turned_away = failed + 1, 0.0
                continue
            self._slots.narrow()
            turned_away = turned_away or time.monotonic()
            if time.monotonic() - turned_away > PATIENCE:
                raise TeacherError(
                    f"{self._endpoint.shown} has turned a request away for {PATIENCE / 60:.0f} minutes ({fault.said}); "
                    "answers so far are kept, and the same command goes on later, with fewer --in-flight"
                )
        raise self._no_answer(f"no answer after {failed} attempts (last: {fault.said})")

    async def _attempt(self, request: Request) -> "Answer | _Fault":
        """One attempt; a fault that may pass is returned, any other raised."""
        try:
            async with asyncio.timeout(self._endpoint.timeout):
                return await self._once(request)
        except openai.APIStatusError as error:
            wait, status, said = self._pace.heed(error.response.headers), error.status_code, self._said(error)
            if status == 429 or (status == 503 and wait > 0):
                if wait == 0:  # turned away without a word of how long
                    await asyncio.sleep(backoff(2))
                return _Fault(f"HTTP {status}", said, turned_away=True)
            if status in (401, 403, 404):
                raise TeacherError(self._refused(status, said)) from error
            if status < 500 and status not in (408, 409, 425):
                raise self._no_answer(f"the {self._endpoint.role} refused the request ({said})") from error
            return _Fault(f"HTTP {status}", said)
        except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException):
            return _Fault("timeout", "timeout")
        except (openai.APIConnectionError, httpx2.TransportError) as error:
            if not (self.requests or self.cached) and isinstance(error.__cause__, httpx2.ConnectError):
                role = self._endpoint.role
                raise TeacherError(
                    f"no {role} at {self._endpoint.shown} ({error.__cause__}); start it, or check --{role}-url"
                ) from error
            return _Fault("connection", "connection")
        except UnusableError as error:
            return _Fault(error.cause, str(error))

    async def _once(self, request: Request) -> Answer:
        # as extra_body the request goes out as it is: checking it against the client's types takes longer than sending
        asked = self._client.chat.completions.with_streaming_response.create(
            model=request.model, messages=[], extra_body=request.body
        )
        async with asked as response:
            self._pace.heed(response.headers)
            content = bytearray()
            async for piece in response.iter_bytes():
                content += piece
                if len(content) > LARGEST_ANSWER:
                    raise UnusableError("endless answer")
        completion = read_completion(bytes(content))
        self._check(request, completion)
        text, usage = completion.text, completion.usage
        prompt, said = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
        return Answer(
            text=text,
            finish_reason=completion.finish_reason,
            prompt_tokens=request.prompt_tokens if prompt is None else prompt,
            completion_tokens=len(text) // 4 + 1 if said is None else said,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _refused(self, status: int, said: str) -> str:
        shown, role = self._endpoint.shown, self._endpoint.role
        if status == 404:
            return f"{shown} does not know the path or the model ({said}); check --{role}-url and --{role}-model"
        return f"{shown} refuses the key ({said}); put the right one in ${self._endpoint.key_variable}"

    def _said(self, error: openai.APIStatusError) -> str:
        """What the endpoint said, in one short line, without the key."""
        text = error.body.get("message") if isinstance(error.body, dict) else None
        line = " ".join(f"HTTP {error.status_code}: {text or error.response.text or 'no reason given'}".split())
        key = self._endpoint.key
        return (line if key == "none" else line.replace(key, "[key]"))[:200]

    def _no_answer(self, reason: str) -> AlignvecError:
        """The fault of one request, or, after many in a row, of the endpoint."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row < max(10, self._endpoint.in_flight):
            return NoAnswerError(reason)
        return TeacherError(
            f"{self._failed_in_a_row} requests in a row failed, the last one so: {reason}; answers so far are kept, "
            f"and the same command goes on when the {self._endpoint.role} is well"
        )


@dataclass(frozen=True)
class _Fault:
    """Why an attempt failed: a kind to be counted, what was said, and whether a rate limit turned it away."""

    cause: str
    said: str
    turned_away: bool = False
