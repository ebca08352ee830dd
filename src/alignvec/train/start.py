"""Going on from a vector: its sides become the first factors of the adapters that are trained."""

from typing import Any

import torch

from alignvec.errors import VectorError
from alignvec.train.config import TrainConfig
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.extract import base_reference
from alignvec.vectors.store import load_vector
from alignvec.vectors.vector import AlignmentVector, Deltas


def start_side(config: TrainConfig, side: str) -> Deltas:
    """Deltas that a side (`positive` or `negative`) goes on from; none without `start`.

    Raises:
        VectorError: if the vector cannot be read, belongs to another base, lacks a side that the recipe trains, or is
            not low-rank with at most the recipe's rank.
    """
    if config.start is None:
        return {}
    vector = load_vector(config.start)
    _require_base(vector, config.base)
    sides = {"positive": vector.positive, "negative": vector.negative}
    found: Deltas = {}
    for wanted in config.orders():  # all of them now: the second is trained hours after the first
        deltas = sides[wanted]
        if deltas is None:
            raise VectorError(
                f"start vector {vector.name!r} is not hinged, so it has no {wanted} side to go on from; name a hinged "
                "one, or train with form: one-sided"
            )
        for name, delta in deltas.items():
            if not isinstance(delta, LowRankDelta):
                raise VectorError(
                    f"start vector {vector.name!r} is not low-rank in {name}; compress it to a rank first"
                )
            if delta.rank > config.rank:
                raise VectorError(
                    f"start vector {vector.name!r} has rank {delta.rank} in {name}, more than the recipe's "
                    f"{config.rank}; set rank: {delta.rank}"
                )
        found = deltas if wanted == side else found
    return found


def load_factors(model: Any, deltas: Deltas) -> None:
    """Put low-rank deltas into the factors of a PEFT model whose scale is 1.

    Of more rank than a delta, the further rows of `a` keep their random values and the columns of `b` are zero.

    Raises:
        VectorError: if a delta is not low-rank, or is of a tensor that has no factors.
    """
    factors = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in deltas.items():
            place = f"base_model.model.{name.removesuffix('.weight')}"
            a, b = (factors.get(f"{place}.lora_{letter}.default.weight") for letter in "AB")
            if a is None or b is None or not isinstance(delta, LowRankDelta):
                raise VectorError(
                    f"the start vector changes {name}, which low-rank training leaves alone; name another"
                )
            a[: delta.rank] = delta.a
            b[:, : delta.rank] = delta.b


def _require_base(vector: AlignmentVector, base: str) -> None:
    found, expected = base_reference(base), vector.card.base
    if found.fingerprint != expected.fingerprint:
        raise VectorError(
            f"start vector {vector.name!r} belongs to base {expected.name!r} ({expected.fingerprint[:12]}), not to the "
            f"recipe's {base!r} ({found.fingerprint[:12]}); start from a vector that was made for it"
        )
    if found.template != expected.template:
        raise VectorError(
            f"start vector {vector.name!r} was made with another chat template or vocabulary than the recipe's base "
            f"{base!r} has; start from a vector that was made with this one"
        )
