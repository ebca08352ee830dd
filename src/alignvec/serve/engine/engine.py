"""The engine: one base model, its vectors, and a batch that requests with any knobs join and leave at any step."""

import asyncio
import itertools
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import ContinuousBatchingConfig, GenerationConfig

from alignvec.data.schema import PreferenceRow
from alignvec.logprobs import EncodedReplies, encode_replies
from alignvec.models import BaseModel
from alignvec.serve.engine.batching import Batching
from alignvec.serve.engine.loaded import LoadedVectors, PackedKnobs
from alignvec.serve.engine.request import Job, Load, Step
from alignvec.serve.engine.row import Row
from alignvec.serve.engine.twin import twin
from alignvec.serve.errors import BadRequestError, OverloadedError, TooLongError, UnavailableError
from alignvec.steer.model import KnobbedModel
from alignvec.steer.scale import Scale
from alignvec.vectors.card import Card
from alignvec.vectors.vector import AlignmentVector

PAGE = 64
"""Tokens in a page of the cache of keys and values."""
STEP = 256
"""Most tokens of a step: a long prompt is read in pieces, so that running replies go on meanwhile."""

WATCH = 5.0
"""Seconds without a token after which a request looks whether the engine still runs."""


@dataclass(frozen=True)
class EngineSettings:
    """Sizes of an engine.

    Attributes:
        max_batch: most requests that generate at the same time.
        queue: most requests that wait for a row; more are refused.
        context: most tokens of a prompt with its reply.
        allow_other_base: load vectors that were made for another base.
    """

    max_batch: int = 16
    queue: int = 64
    context: int = 2048
    allow_other_base: bool = False


class Engine:
    """Generates with knobs per request, on transformers' continuous batching.

    Args:
        base: the base model; it belongs to the engine from now on.
        vectors: made for it.
        settings: sizes.

    Raises:
        VectorError: see `LoadedVectors`.
    """

    def __init__(
        self, base: BaseModel, vectors: Sequence[AlignmentVector], settings: EngineSettings = EngineSettings()
    ) -> None:
        self.base = base
        self.settings = settings
        self.context = min(settings.context, base.context_length)
        self._twin = twin(base)
        self._scoring = asyncio.Lock()
        self._scorings: set[asyncio.Future[Sequence[float]]] = set()
        self._knobs = PackedKnobs(base.model)
        self._ends = _end_tokens(base)
        self._numbers = itertools.count()
        self._requests = 0
        self._batching: Batching | None = None
        self._loaded = LoadedVectors(base, vectors, allow_other_base=settings.allow_other_base)

    @property
    def loaded(self) -> LoadedVectors:
        """The set of vectors that requests are served with from now on."""
        return self._loaded

    @property
    def scales(self) -> Mapping[str, Scale]:
        """Positions of every knob."""
        return self._loaded.scales

    @property
    def cards(self) -> Mapping[str, Card]:
        """Card of every vector."""
        return {name: vector.card for name, vector in self._loaded.vectors.items()}

    @property
    def alive(self) -> bool:
        """Whether the engine generates."""
        return self._batching is not None and self._batching.is_running()

    def start(self) -> None:
        """Start generating in a thread of its own."""
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)  # it logs requests' tokens
        pages = self.settings.max_batch * math.ceil(self.context / PAGE)
        config = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=pages,
            max_batch_tokens=max(STEP, self.settings.max_batch),
            max_requests_per_batch=self.settings.max_batch,
            allow_block_sharing=False,  # keys and values depend on the knobs
            use_async_batching=False,  # a gate belongs to one batch
            use_cuda_graph=False,
        )
        generation: Any = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, eos_token_id=self._ends, pad_token_id=self._ends[0]
        )
        self._batching = Batching(self.base.model, self._knobs, generation, config)
        self._batching.start()

    def stop(self) -> None:
        """Stop at once; running requests fail."""
        if self._batching is not None:
            self._batching.stop(block=True, timeout=30, hard_stop=True)
            self._knobs.close()

    def load(self) -> Load:
        """How busy the engine is."""
        processor = None if self._batching is None else self._batching.batch_processor
        running = 0 if processor is None else len(processor.scheduler.active_requests)
        free = 1.0 if processor is None else float(processor.cache.compute_free_capacity())
        room = self.settings.max_batch + self.settings.queue
        return Load(running, max(0, self._requests - running), room, free)

    async def stream(self, job: Job) -> AsyncIterator[Step]:
        """Tokens of one reply as they are generated; closing the iterator frees the request's row.

        Raises:
            TooLongError: if prompt and reply do not fit the context.
            BadRequestError: if the prompt has no tokens.
            OverloadedError: if the queue is full.
            UnavailableError: if the request's batch fails, or the engine is stopped.
        """
        batching = self._admit(job)
        name = f"r{next(self._numbers)}"
        loaded: LoadedVectors = job.vectors or self._loaded
        row = Row(job, loaded)
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        loaded.requests += 1
        self._requests += 1
        done = False
        try:
            batching.register_result_handler(name, outputs.put_nowait)
            if (
                batching.add_request(
                    list(job.prompt),
                    request_id=name,
                    max_new_tokens=job.sampling.max_new_tokens,
                    streaming=True,
                    eos_token_id=self._ends,
                    row=row,
                )
                is None
            ):
                raise UnavailableError("the engine is stopping; ask again in a moment", retry_after=5)
            sent = 0
            while not done:
                output = await self._next(outputs)
                done = output.is_finished()
                if output.error is not None:
                    raise UnavailableError(
                        f"the batch of this request failed ({_cause(output.error)}); ask again in a moment",
                        retry_after=1,
                    )
                for index in range(sent, len(output.generated_tokens)):
                    token = output.generated_tokens[index]
                    last = done and index == len(output.generated_tokens) - 1
                    logprob, top = row.measured(index)
                    ended: Literal["stop", "length"] = "stop" if token in self._ends else "length"
                    yield Step(token, logprob, top, ended if last else None)
                sent = len(output.generated_tokens)
        finally:
            if not done:
                batching.cancel_request(name)
                batching.output_router.result_handlers.pop(name, None)
            loaded.requests -= 1
            self._requests -= 1

    async def reload(self, vectors: Sequence[AlignmentVector]) -> None:
        """Serve later requests with other vectors; those that have begun keep theirs.

        Raises:
            VectorError: see `LoadedVectors`; the vectors stay as they were.
        """
        loaded = await asyncio.to_thread(
            LoadedVectors, self.base, vectors, allow_other_base=self.settings.allow_other_base
        )
        self._loaded = loaded

    async def preference(
        self, row: PreferenceRow, knobs: Mapping[str, float], vectors: LoadedVectors | None = None
    ) -> dict[str, float]:
        """Log-likelihood per token, in nats, of each level's reference reply to a query, under the knobs.

        Args:
            row: the query and its replies.
            knobs: coefficient λ by vector name.
            vectors: the set that the knobs are of; None for the one that is loaded.

        Raises:
            DataError: if a query with its reply does not fit the context.
        """
        levels, replies = list(row.responses), list(row.responses.values())
        encoded = encode_replies(self.base.tokenizer, row.query, replies, max_length=self.context)
        # A caller that goes away must not let the next one at the model while this one's thread is still at it.
        scoring = asyncio.ensure_future(self._score(encoded, knobs, vectors or self._loaded))
        self._scorings.add(scoring)
        scoring.add_done_callback(self._scored)
        sums = await asyncio.shield(scoring)
        return {level: total / len(reply) for level, total, reply in zip(levels, sums, encoded.replies, strict=True)}

    async def _score(
        self, encoded: EncodedReplies, knobs: Mapping[str, float], loaded: LoadedVectors
    ) -> Sequence[float]:
        async with self._scoring:
            model = KnobbedModel(self._twin, list(loaded.vectors.values()), allow_other_base=True)
            scores = await asyncio.to_thread(model.score, [encoded], knobs)
            return [float(value) for value in scores[0]]

    def _scored(self, scoring: "asyncio.Future[Sequence[float]]") -> None:
        self._scorings.discard(scoring)
        if not scoring.cancelled():
            scoring.exception()  # nobody may be left to be told

    async def _next(self, outputs: "asyncio.Queue[Any]") -> Any:
        """The next output; a thread that has died will not send one."""
        while True:
            try:
                return await asyncio.wait_for(outputs.get(), WATCH)
            except TimeoutError:
                if not self.alive:
                    raise UnavailableError("the engine has stopped; look at /ready", retry_after=5) from None

    def _admit(self, job: Job) -> Batching:
        if self._batching is None or not self.alive:
            raise UnavailableError("the engine is not running; look at /ready", retry_after=5)
        wanted = job.sampling.max_new_tokens
        if not job.prompt:
            raise BadRequestError("the prompt has no tokens; write something", param="prompt")
        if len(job.prompt) + wanted > self.context:
            raise TooLongError(
                f"a prompt of {len(job.prompt)} tokens and a reply of up to {wanted} do not fit the context of "
                f"{self.context}; shorten the prompt or lower max_tokens",
                param="messages",
            )
        load = self.load()
        if self._requests >= load.room:
            raise OverloadedError(
                f"{load.running} requests are running and {load.waiting} waiting, which is all there is room for; "
                "ask again in a moment",
                retry_after=max(1.0, load.waiting / max(load.running, 1)),
            )
        return self._batching


def _end_tokens(base: BaseModel) -> list[int]:
    """Tokens that end a turn: what the model's configuration and its tokenizer name."""
    named = [base.model.generation_config.eos_token_id, base.model.config.eos_token_id, base.tokenizer.eos_token_id]
    flat = [token for one in named for token in (one if isinstance(one, list) else [one]) if token is not None]
    return list(dict.fromkeys(flat)) or [-1]


def _cause(error: str) -> str:
    """First line of an error, shortened."""
    return error.strip().split("\n")[0][:120] or "unknown cause"
