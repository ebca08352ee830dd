"""A request while it has a row in the batch."""

from collections.abc import Sequence
from typing import Any

import torch

from alignvec.serve.engine.loaded import LoadedVectors
from alignvec.serve.engine.request import Job
from alignvec.steer.sampling import logits_processors


class Row:
    """Chooses a request's tokens and remembers their log-probabilities.

    The draws are those of `KnobbedModel.generate` with the same sampling: they depend on seed and prompt alone.

    Attributes:
        loaded: the vectors that the request started with.
        gates: of their parts.
    """

    def __init__(self, job: Job, loaded: LoadedVectors) -> None:
        self.loaded = loaded
        self.gates: Sequence[float] = loaded.gates(job.knobs)
        self._job = job
        self._processors = logits_processors(job.sampling, [job.prompt], 0)
        self._reply: list[int] = []
        self._measured: list[tuple[float, Sequence[tuple[int, float]]]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "Row":
        return self  # transformers copies what a request carries when it starts it anew

    def choose(self, scores: torch.Tensor) -> None:
        """Change the scores, [vocabulary], in place, so that the largest is the next token's."""
        normal = None if self._job.logprobs is None else torch.log_softmax(scores, dim=-1)
        if self._processors:
            reply = torch.tensor([self._reply], dtype=torch.long, device=scores.device)
            scores.copy_(self._processors(reply, scores[None])[0])
        elif normal is None:
            return
        token = int(scores.argmax())
        if normal is not None:
            values, tokens = normal.topk(self._job.logprobs or 0)
            self._measured.append((float(normal[token]), list(zip(tokens.tolist(), values.tolist(), strict=True))))
        self._reply.append(token)

    def measured(self, index: int) -> tuple[float | None, Sequence[tuple[int, float]]]:
        """Log-probability of token `index` of the reply and of the likeliest ones, if they were asked for."""
        return self._measured[index] if self._job.logprobs is not None else (None, ())
