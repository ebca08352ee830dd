"""What all ways to ask for levels have in common, so that they are compared on the same queries, goals and budget."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch

from alignvec.logprobs import EncodedReplies, encode_replies
from alignvec.models import BaseModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.strict import Strict
from alignvec.vectors.vector import AlignmentVector

Goal: TypeAlias = Mapping[str, str]
"""Domain to the level that is asked for; {} asks for nothing, which is the base."""
BASE_KEY = "base"


class MethodCard(Strict):
    """What a method is and needs.

    Attributes:
        name: of the method.
        asks: how it is told a level.
        new_goal: what has to be done for a goal that was not seen before.
        train_seconds: of all training before any goal is known; None if it was not measured.
        set_up_seconds: of `new_goal`; None if it was not measured.
        weight_bytes: of tensors that it keeps beside the base.
        settings: what its replies depend on besides base, query, goal and sampling.
    """

    name: str
    asks: str
    new_goal: str
    train_seconds: float | None
    set_up_seconds: float | None
    weight_bytes: int
    settings: dict[str, Any]


class Method(ABC):
    """A way to make one base model answer each domain at the level that a goal asks for.

    Rows of a batch may have different goals, and a row's reply does not depend on its neighbours.

    Attributes:
        name: of the method, unique in a comparison.
        base: the model that replies.
        train_seconds: see `MethodCard`.
    """

    asks: ClassVar[str]
    new_goal: ClassVar[str]

    def __init__(self, name: str, base: BaseModel, *, train_seconds: float | None = None) -> None:
        self.name = name
        self.base = base
        self.train_seconds = train_seconds

    @abstractmethod
    def reply(self, queries: Sequence[str], goals: Sequence[Goal], sampling: Sampling) -> list[str]:
        """One reply to every query under its goal, in one batch.

        Raises:
            ConfigError: if a goal names a domain or level that the method knows nothing of.
            DataError: if a query with its reply does not fit the model's context.
        """

    @abstractmethod
    def score(self, queries: Sequence[str], replies: Sequence[Sequence[str]], goals: Sequence[Goal]) -> torch.Tensor:
        """Summed log-probability of each query's replies under its goal, [queries, replies], in nats.

        Args:
            queries: one a row.
            replies: as many for every query.
            goals: one for each query.

        Raises:
            ConfigError, DataError: as `reply`.
        """

    @abstractmethod
    def settings(self, goal: Goal) -> dict[str, Any]:
        """What replies under a goal depend on besides base, query and sampling, as JSON values."""

    @property
    @abstractmethod
    def fixed(self) -> dict[str, Any]:
        """What replies under any goal depend on, as JSON values."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the tensors that the method keeps beside the base."""
        return 0

    def set_up(self, goal: Goal) -> float | None:
        """Seconds from a goal that was not seen before to the first request under it; None if not measured."""
        return 0.0

    def can(self, goal: Goal) -> bool:
        """Whether the method can be asked for a goal as it is."""
        return True

    def is_base(self, goal: Goal) -> bool:
        """Whether replies under a goal are the base's own."""
        return not goal

    def key(self, goal: Goal) -> str:
        """What replies under a goal are known by: other settings have other keys, and whatever is the base has its."""
        if self.is_base(goal):
            return BASE_KEY
        told = json.dumps([self.fixed, self.settings(goal)], sort_keys=True)
        return f"{self.name} {hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def card(self, goal: Goal) -> MethodCard:
        """What the method is.

        Args:
            goal: one that was not seen before, for the seconds to set it up.
        """
        return MethodCard(
            name=self.name,
            asks=self.asks,
            new_goal=self.new_goal,
            train_seconds=self.train_seconds,
            set_up_seconds=self.set_up(goal),
            weight_bytes=self.weight_bytes,
            settings=self.fixed,
        )


def goal_text(goal: Goal) -> str:
    """A goal as `medical=expert,legal=avoidance`, in the order of its domains' names; `base` for none."""
    return ",".join(f"{domain}={goal[domain]}" for domain in sorted(goal)) or BASE_KEY


def encoded(
    base: BaseModel,
    query: str,
    replies: Sequence[str],
    before: Sequence[Mapping[str, str]] = (),
) -> EncodedReplies:
    """A query's replies, after turns that come before it; see `encode_replies`."""
    return encode_replies(base.tokenizer, query, replies, max_length=base.context_length, before=before)


def bytes_of(vector: AlignmentVector) -> int:
    """Bytes of a vector's tensors."""
    return sum(delta.nbytes for part in vector.parts for delta in part.deltas.values())


def digest_of(vector: AlignmentVector) -> str:
    """What a vector's tensors are known by, whether or not it was ever saved."""
    found = hashlib.sha256(vector.card.form.encode())
    for part in vector.parts:
        for name in sorted(part.deltas):
            delta = part.deltas[name]
            tensors = (delta.a, delta.b) if isinstance(delta, LowRankDelta) else (delta.dense(),)
            found.update(f"{part.sign} {name}".encode())
            for tensor in tensors:
                found.update(tensor.float().contiguous().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
