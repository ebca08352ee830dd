"""The text of a reply while its tokens come in: whole characters only, and never a stop string or its beginning."""

from collections.abc import Sequence
from typing import Any

REPLACEMENT = "�"
UNFINISHED = 3
"""Most bytes, and so replacement characters, that an unfinished UTF-8 character shows as."""
WINDOW = 64
"""Tokens without one whole character after which what there is is passed on: it is not UTF-8 anyway."""


class ReplyText:
    """Text of one reply.

    Args:
        tokenizer: of the model.
        prompt: token ids before the reply; a space between the two belongs to the reply.
        stop: strings that end the reply and are not part of it. The one that is complete first counts; of several
            that end at the same character, the longest.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int] = (), stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = stop
        self._held = ""
        self._sent = 0
        self._restart(list(prompt[-1:]))

    def push(self, token: int) -> str:
        """Text that is certain after one more token; empty if there is none, or once `stopped`."""
        self._window.append(token)
        text = self._decode()
        unfinished = min(len(text) - len(text.rstrip(REPLACEMENT)), UNFINISHED)
        if len(self._window) > WINDOW:
            unfinished = 0
        whole = text[: len(text) - unfinished]
        new = whole[self._sent :]
        self._sent = max(self._sent, len(whole))
        if (new and not unfinished) or len(self._window) > WINDOW:
            self._restart([token])
        return self._filter(new)

    def finish(self) -> str:
        """What was held back, at the end of the reply."""
        text = self._filter(self._decode()[self._sent :])
        if self.stopped:
            return text
        text, self._held = text + self._held, ""
        return text

    def _restart(self, context: list[int]) -> None:
        # decoders treat a first token specially (its space is dropped), so each window begins with one that was sent
        self._window = context
        self._sent = len(self._decode())

    def _decode(self) -> str:
        text: str = self._tokenizer.decode(self._window, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _filter(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)[1]], ""
            return text
        keep = self._beginning()
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def _beginning(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = min(len(self._held), max(map(len, self._stop), default=1) - 1)
        return next((n for n in range(longest, 0, -1) if any(s.startswith(self._held[-n:]) for s in self._stop)), 0)
