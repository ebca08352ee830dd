"""A teacher behind any OpenAI-compatible endpoint: bounded, patient, paid for once."""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletion
from pydantic import ValidationError

from alignvec.data.teacher.budget import Budget
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.pace import Pace, backoff
from alignvec.data.teacher.request import Answer, Request
from alignvec.data.teacher.slots import Slots, Urgency
from alignvec.errors import AlignvecError, ConfigError, TeacherError

LARGEST_ANSWER = 4 << 20
"""Bytes of an HTTP answer that are read; a longer one is cut off and asked for again."""


class NoAnswerError(AlignvecError):
    """One request got no answer for a reason of its own, or after all attempts; others may."""


@dataclass(frozen=True)
class Endpoint:
    """Where the teacher is and how it is treated.

    Attributes:
        url: base URL; `/v1` is added to a bare host.
        in_flight: most requests at once.
        timeout: seconds that one attempt may take from the first byte sent to the last received.
        attempts: tries of one request.
        key_variable: environment variable with the API key; without it, the endpoint gets a placeholder.
    """

    url: str
    in_flight: int = 16
    timeout: float = 120.0
    attempts: int = 6
    key_variable: str = "OPENAI_API_KEY"

    @property
    def base_url(self) -> str:
        """The URL that paths such as `/chat/completions` are added to.

        Raises:
            ConfigError: if it is no http(s) URL.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"teacher URL {self.url!r} is not an http(s) URL; write it like http://127.0.0.1:8000/v1")
        return self.url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


class Teacher:
    """Asks an endpoint, through a cache and within a budget.

    Attributes:
        budget: limits, and what was spent.
        requests: answers that came over the network.
        cached: answers that were in the cache.
        retries: cause to the number of attempts that failed of it.

    Args:
        endpoint: where and how.
        cache: answers that are there already, and where new ones go.
        budget: what it may cost.

    Raises:
        ConfigError: if the endpoint's URL is none.
    """

    def __init__(self, endpoint: Endpoint, cache: AnswerCache, budget: Budget) -> None:
        self.budget = budget
        self.requests = 0
        self.cached = 0
        self.retries: Counter[str] = Counter()
        self._endpoint = endpoint
        self._cache = cache
        self._pace = Pace()
        self._slots = Slots(endpoint.in_flight)
        self._failed_in_a_row = 0
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=os.environ.get(endpoint.key_variable) or "none",
            max_retries=0,
            timeout=endpoint.timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=httpx2.Limits(max_connections=endpoint.in_flight, max_keepalive_connections=endpoint.in_flight)
            ),
        )

    async def __aenter__(self) -> "Teacher":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, request: Request, urgency: Urgency = (0, "")) -> Answer:
        """The answer to a request, from the cache or the endpoint; kept before it is returned.

        Args:
            request: what to ask.
            urgency: which of the requests that wait goes out first.

        Raises:
            NoAnswerError: if the endpoint refuses this request, or fails it at every attempt.
            TeacherError: if the endpoint refuses all requests, cannot be reached, or fails many in a row.
            BudgetError: if the answer might exceed the budget.
        """
        if (known := self._cache.get(request)) is not None:
            self.cached += 1
            return known
        async with self._slots.held(urgency), self.budget.reserved(request):
            answer = await self._insist(request)
            self._cache.put(request, answer)
            self.budget.charge(answer)
        self.requests += 1
        self._failed_in_a_row = 0
        return answer

    async def _insist(self, request: Request) -> Answer:
        cause = ""
        for attempt in range(self._endpoint.attempts):
            if attempt:
                await asyncio.sleep(backoff(attempt))
            await self._pace.ready()
            try:
                async with asyncio.timeout(self._endpoint.timeout):
                    return await self._once(request)
            except openai.APIStatusError as error:
                self._pace.heed(error.response.headers)
                cause = f"HTTP {error.status_code}"
                if error.status_code in (401, 403, 404):
                    raise TeacherError(self._refused(error)) from error
                if error.status_code < 500 and error.status_code not in (408, 409, 425, 429):
                    raise self._no_answer(f"the teacher refused the request ({_said(error)})") from error
            except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException):
                cause = "timeout"
            except (openai.APIConnectionError, httpx2.TransportError) as error:
                cause = "connection"
                if not (self.requests or self.cached) and isinstance(error.__cause__, httpx2.ConnectError):
                    raise TeacherError(
                        f"no teacher at {self._endpoint.base_url} ({error.__cause__}); start it, or check --teacher-url"
                    ) from error
            except _UnusableError as error:
                cause = str(error)
            self.retries[cause] += 1
        raise self._no_answer(f"no answer after {self._endpoint.attempts} attempts (last: {cause})")

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
                    raise _UnusableError("endless answer")
        try:
            completion = ChatCompletion.model_validate_json(bytes(content))
            choice = completion.choices[0]
        except (ValidationError, IndexError):
            raise _UnusableError("unusable JSON") from None
        text = (choice.message.content or "").strip()
        usage = completion.usage
        return Answer(
            text=text,
            finish_reason=choice.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else request.prompt_tokens,
            completion_tokens=usage.completion_tokens if usage else len(text) // 4 + 1,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _refused(self, error: openai.APIStatusError) -> str:
        base = self._endpoint.base_url
        if error.status_code == 404:
            return (
                f"{base} does not know the path or the model ({_said(error)}); check --teacher-url and --teacher-model"
            )
        return f"{base} refuses the key ({_said(error)}); put the right one in ${self._endpoint.key_variable}"

    def _no_answer(self, reason: str) -> AlignvecError:
        """The fault of one request, or, after many in a row, of the endpoint."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row < max(10, self._endpoint.in_flight):
            return NoAnswerError(reason)
        return TeacherError(
            f"{self._failed_in_a_row} requests in a row failed, the last one so: {reason}; answers so far are kept, "
            "and the same command goes on when the teacher is well"
        )


class _UnusableError(Exception):
    """An answer came, but not one that can be used."""


def _said(error: openai.APIStatusError) -> str:
    """What the endpoint said, in one short line."""
    text = error.body.get("message") if isinstance(error.body, dict) else None
    return " ".join(f"HTTP {error.status_code}: {text or error.response.text or 'no reason given'}".split())[:200]
