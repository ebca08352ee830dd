"""What a request has had so far, for metrics and audit log."""

import time

from alignvec.serve.ask import Piece


class Tally:
    """What a request has had so far.

    Attributes:
        start: when it began (`time.monotonic`, seconds).
        first: when its first piece came.
        tokens: of all replies together.
        texts: pieces of each reply.
        finish: why each reply has ended; None for one that goes on.

    Args:
        n: number of replies.
    """

    def __init__(self, n: int) -> None:
        self.start = time.monotonic()
        self.first: float | None = None
        self.tokens = 0
        self.texts: list[list[str]] = [[] for _ in range(n)]
        self.finish: list[str | None] = [None] * n

    def add(self, piece: Piece) -> None:
        """Count the next piece."""
        self.first = self.first or time.monotonic()
        self.tokens += len(piece.steps)
        self.texts[piece.choice].append(piece.text)
        self.finish[piece.choice] = piece.finish
