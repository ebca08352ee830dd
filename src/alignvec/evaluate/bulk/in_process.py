"""Engines of this process as what a `BatchedTeacher` asks: the model of `transformers`, and vLLM's offline batches."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from alignvec.data.teacher.request import Answer, Request
from alignvec.errors import DataError
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import Continuation, KnobbedModel
from alignvec.steer.sampling import Sampling


class ChatEngine(Protocol):
    """Continues many chats, each at its knobs and with its sampling."""

    def chat(
        self, chats: Sequence[Sequence[dict[str, str]]], knobs: Sequence[Knobs], sampling: Sequence[Sampling]
    ) -> list[Continuation]:
        """The next assistant turn of every chat."""
        ...


class ChatAnswers:
    """Answers requests with the turns of a chat engine.

    Args:
        engine: who continues the chats.
    """

    def __init__(self, engine: ChatEngine) -> None:
        self._engine = engine

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer to every request.

        Raises:
            DataError: if the engine refuses one of them.
            KnobError: likewise.
        """
        try:
            found = self._engine.chat(
                [request.chat for request in requests],
                [dict(request.knobs or ()) for request in requests],
                [sampling_of(request) for request in requests],
            )
        except ValueError as error:  # how vLLM refuses a chat that is too long
            raise DataError(str(error)) from error
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return [
            Answer(
                text=one.text,
                finish_reason="stop" if one.ended else "length",
                prompt_tokens=request.prompt_tokens,
                completion_tokens=len(one.text) // 4 + 1 if one.tokens is None else one.tokens,
                time=now,
            )
            for request, one in zip(requests, found, strict=True)
        ]


class LocalChats:
    """A `KnobbedModel` as a chat engine: rows that differ only in knobs and seeds share a batch.

    Args:
        model: the model with its vectors.
    """

    def __init__(self, model: KnobbedModel) -> None:
        self._model = model

    def chat(
        self, chats: Sequence[Sequence[dict[str, str]]], knobs: Sequence[Knobs], sampling: Sequence[Sampling]
    ) -> list[Continuation]:
        """The next assistant turn of every chat.

        Raises:
            DataError: if a chat with its reply does not fit the model's context.
            KnobError: if a knob names no loaded vector.
        """
        alike: dict[Sampling, list[int]] = {}
        for i, one in enumerate(sampling):
            alike.setdefault(one.model_copy(update={"seed": 0}), []).append(i)
        replies: dict[int, Continuation] = {}
        for shared, rows in alike.items():
            found = self._model.continuations(
                [chats[i] for i in rows], [knobs[i] for i in rows], shared, seeds=[sampling[i].seed for i in rows]
            )
            replies |= zip(rows, found, strict=True)
        return [replies[i] for i in range(len(chats))]


def sampling_of(request: Request) -> Sampling:
    """A request's sampling settings; without a repetition penalty there is none."""
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        repetition_penalty=request.repetition_penalty or 1.0,
        max_new_tokens=request.max_tokens,
        seed=request.seed,
    )


def vllm_answers(model: str, vectors: Sequence[Path] = (), *, dtype: str = "auto") -> ChatAnswers:
    """vLLM's offline batches: no server, no port.

    Args:
        model: a folder or hub id; `demo` is the demo model.
        vectors: folders of the vectors that requests may turn.
        dtype: of the weights; `auto` is what they are stored in.

    Raises:
        ConfigError: if vLLM is not installed in this environment.
    """
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is for results
    from alignvec.engines.vllm.offline import OfflineEngine

    return ChatAnswers(OfflineEngine(model, vectors, options={"dtype": dtype}))
