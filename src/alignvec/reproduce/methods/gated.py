"""Methods that turn knobs of a `KnobbedModel`: base, knobs, joint vectors, weight soups."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from alignvec.reproduce.methods.method import Goal, Method, bytes_of, digest_of, encoded
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import row_shares, turn_by
from alignvec.steer.router import Router
from alignvec.steer.sampling import Sampling


class Gated(Method):
    """A goal becomes a setting of knobs.

    Args:
        name: of the method.
        model: with the vectors that it turns.
        router: lets a knob act on its domain's queries only; it reads each query once more, with the base.
        train_seconds: of the vectors.
    """

    def __init__(
        self, name: str, model: KnobbedModel, *, router: Router | None = None, train_seconds: float | None = None
    ) -> None:
        super().__init__(name, model.base, train_seconds=train_seconds)
        self.model = model
        self.router = router

    @abstractmethod
    def knobs(self, goal: Goal) -> dict[str, float]:
        """The setting of a goal.

        Raises:
            ConfigError: if the method has none.
        """

    def reply(self, queries: Sequence[str], goals: Sequence[Goal], sampling: Sampling) -> list[str]:
        """See `Method.reply`."""
        return self.model.generate(queries, self.rows(queries, goals), sampling)

    def score(self, queries: Sequence[str], replies: Sequence[Sequence[str]], goals: Sequence[Goal]) -> torch.Tensor:
        """See `Method.score`."""
        rows = [encoded(self.base, query, texts) for query, texts in zip(queries, replies, strict=True)]
        return self.model.score(rows, self.rows(queries, goals))

    def rows(self, queries: Sequence[str], goals: Sequence[Goal]) -> list[Knobs]:
        """The setting of each query, as a router turns it if there is one."""
        asked = [self.knobs(goal) for goal in goals]
        names = sorted({name for knobs in asked for name in knobs})
        if self.router is None or not names:
            return list(asked)
        turn = turn_by(names, row_shares(self.router, self.model, queries, names))
        return [turn(row, knobs) for row, knobs in enumerate(asked)]

    def is_base(self, goal: Goal) -> bool:
        """Whether no knob is turned."""
        return not self.knobs(goal)

    def settings(self, goal: Goal) -> dict[str, Any]:
        """The knobs."""
        return dict(self.knobs(goal))

    @property
    def fixed(self) -> dict[str, Any]:
        """The vectors and the router."""
        found: dict[str, Any] = {"vectors": {name: digest_of(one) for name, one in sorted(self.model.vectors.items())}}
        if self.router is not None:
            weights = (self.router.weight, self.router.bias)
            found["router"] = {
                **self.router.card.model_dump(mode="json", exclude={"measured"}),
                "weights": [hashlib.sha256(one.tobytes()).hexdigest()[:16] for one in weights],
            }
        return found

    @property
    def weight_bytes(self) -> int:
        """Bytes of the vectors, and of the router."""
        router = self.router.weight.nbytes + self.router.bias.nbytes if self.router else 0
        return sum(map(bytes_of, self.model.vectors.values())) + router
