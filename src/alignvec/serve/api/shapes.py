"""Replies as OpenAI's API writes them, for chats and completions, whole and in chunks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, TypeAlias

from alignvec.serve.api.logprobs import chat_logprobs, completion_logprobs
from alignvec.serve.ask import Piece
from alignvec.serve.engine.request import Step
from alignvec.serve.setting import Setting

Delta: TypeAlias = tuple[dict[str, Any], str | None]
"""What a chunk says of its choice, and why the choice has ended."""


@dataclass
class _Choice:
    text: str = ""
    steps: list[Step] = field(default_factory=list)
    finish: str | None = None
    begun: bool = False


class Shape:
    """One reply as it grows.

    Attributes:
        setting: the knobs that are applied, echoed; known from the first piece on.

    Args:
        tokenizer: of the model.
        model: name in the request.
        choices: number of choices.
        prompt_tokens: of all prompts together.
        logprobs: see `Ask`.
    """

    kind = ""
    chunk_kind = ""
    prefix = ""

    def __init__(self, tokenizer: Any, model: str, choices: int, prompt_tokens: int, logprobs: int | None) -> None:
        self.tokenizer, self.logprobs = tokenizer, logprobs
        self.setting = Setting()
        self.prompt_tokens = prompt_tokens
        self.choices = [_Choice() for _ in range(choices)]
        self.head = {"id": f"{self.prefix}-{token_hex(12)}", "created": int(time.time()), "model": model}
        self._first = True

    def add(self, piece: Piece) -> None:
        """Take in the next piece."""
        self.setting = piece.setting
        choice = self.choices[piece.choice]
        choice.text += piece.text
        choice.steps.extend(piece.steps)
        choice.finish = piece.finish

    def whole(self) -> dict[str, Any]:
        """The reply when it is complete."""
        choices = [self._whole(choice) | self._end(i, choice.finish) for i, choice in enumerate(self.choices)]
        return {**self.head, "object": self.kind, "choices": choices, "usage": self.usage(), **self._alignment()}

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """The chunks of a stream that a piece makes; it is taken in too."""
        choice = self.choices[piece.choice]
        before = choice.steps[:]
        self.add(piece)
        parts = []
        for delta, finish in self._deltas(piece, choice, before):
            last = finish is not None and all(one.finish for one in self.choices)
            echo = self._alignment() if self._first or last else {}
            self._first = False
            parts.append(
                {**self.head, "object": self.chunk_kind, "choices": [delta | self._end(piece.choice, finish)], **echo}
            )
        return parts

    def usage_chunk(self) -> dict[str, Any]:
        """The chunk after the last one, if usage was asked for."""
        return {**self.head, "object": self.chunk_kind, "choices": [], "usage": self.usage(), **self._alignment()}

    def usage(self) -> dict[str, int]:
        """Counts of tokens; the one that ends a turn counts."""
        reply = sum(len(choice.steps) for choice in self.choices)
        prompt = self.prompt_tokens
        return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}

    def _alignment(self) -> dict[str, Any]:
        return {"alignment": self.setting.model_dump(mode="json")}

    @staticmethod
    def _end(index: int, finish: str | None) -> dict[str, Any]:
        return {"index": index, "finish_reason": finish}

    def _whole(self, choice: _Choice) -> dict[str, Any]:
        raise NotImplementedError

    def _deltas(self, piece: Piece, choice: _Choice, before: Sequence[Step]) -> Sequence[Delta]:
        raise NotImplementedError


class ChatShape(Shape):
    """Of /v1/chat/completions."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def _whole(self, choice: _Choice) -> dict[str, Any]:
        message = {"role": "assistant", "content": choice.text, "refusal": None}
        return {"message": message, "logprobs": self._logs(choice.steps)}

    def _deltas(self, piece: Piece, choice: _Choice, before: Sequence[Step]) -> Sequence[Delta]:
        deltas: list[Delta] = []
        if not choice.begun:
            choice.begun = True
            deltas.append(({"delta": {"role": "assistant", "content": ""}, "logprobs": None}, None))
        if piece.text or (self.logprobs is not None and piece.steps):
            deltas.append(({"delta": {"content": piece.text}, "logprobs": self._logs(piece.steps)}, None))
        if piece.finish:
            deltas.append(({"delta": {}, "logprobs": None}, piece.finish))
        return deltas

    def _logs(self, steps: Sequence[Step]) -> dict[str, Any] | None:
        return None if self.logprobs is None else chat_logprobs(self.tokenizer, steps)


class CompletionShape(Shape):
    """Of /v1/completions."""

    kind, chunk_kind, prefix = "text_completion", "text_completion", "cmpl"

    def _whole(self, choice: _Choice) -> dict[str, Any]:
        return {"text": choice.text, "logprobs": self._logs(choice.steps, ())}

    def _deltas(self, piece: Piece, choice: _Choice, before: Sequence[Step]) -> Sequence[Delta]:
        return [({"text": piece.text, "logprobs": self._logs(piece.steps, before)}, piece.finish)]

    def _logs(self, steps: Sequence[Step], before: Sequence[Step]) -> dict[str, Any] | None:
        if self.logprobs is None:
            return None
        return completion_logprobs(self.tokenizer, steps, before, self.logprobs > 0)
