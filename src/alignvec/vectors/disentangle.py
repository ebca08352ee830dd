"""Taking out of several vectors a share of what they have in common, in the weights alone.

Every result is a sum of the vectors, Δᵢ' = Σⱼ Cᵢⱼ Δⱼ, and C follows from their inner products: nothing dense is formed
of low-rank factors, which are added by concatenation.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, Literal

import torch

from alignvec.errors import ConfigError, VectorError
from alignvec.vectors.card import UNMEASURED, Card
from alignvec.vectors.compare import gram
from alignvec.vectors.compress import Form, compress_delta, squared_error
from alignvec.vectors.delta import Delta, LowRankDelta, add
from alignvec.vectors.vector import AlignmentVector, Deltas, joined_error, joined_licence, joined_source

Direction = Literal["mean", "singular"]
"""What vectors may be said to share: their mean, or the direction that holds most of their squared norms."""


def disentangle(
    vectors: Sequence[AlignmentVector],
    strength: float,
    *,
    by: Direction = "mean",
    per_tensor: bool = False,
    rank: int | None = None,
) -> list[AlignmentVector]:
    """Each vector less `strength` times its projection on the direction that all share; hinged ones side by side.

    Low-rank sums of more rank than is kept are cut by their singular values and stored in 16 bits; the card gets the
    relative error ‖Δ' − Δ‖/‖Δ‖ over these tensors as `rank_cut`. Other deltas are summed as they are.

    Args:
        vectors: for one base, all single or all hinged.
        strength: share of the projection to take away, 0 to 1; at 1 nothing is left along the direction.
        by: which direction they share.
        per_tensor: find the direction in every tensor on its own, instead of in the whole model.
        rank: most rank of the results; default: the most that each vector has.

    Raises:
        ConfigError: if the strength is out of range.
        VectorError: if there are fewer than two vectors, two have one name, they are not alike in base and form, or a
            tensor has another shape in each.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength {strength:g} is no share; use a number from 0 to 1")
    _require_alike(vectors)
    positive = _side([v.positive for v in vectors], strength, by, per_tensor)
    negatives = [v.negative for v in vectors if v.negative is not None]
    negative: Sequence[Deltas | None] = (
        _side(negatives, strength, by, per_tensor) if negatives else [None for _ in vectors]
    )
    how = {"of": [v.name for v in vectors], "by": by, "strength": strength, "per_tensor": per_tensor}
    cards = [v.card for v in vectors]
    made = []
    for v, plus, minus in zip(vectors, positive, negative, strict=True):
        kept = rank or _most_rank(v)
        card = _card(v.card, cards, {**how, "kept_rank": kept})
        made.append(_cut(AlignmentVector(card, plus, minus), kept))
    return made


def mixing(products: torch.Tensor, strength: float, by: Direction) -> torch.Tensor:
    """C of Δᵢ' = Σⱼ Cᵢⱼ Δⱼ, [n, n].

    With the mean m = Σⱼ Δⱼ / n, <Δᵢ, m>/<m, m> is n times the i-th row sum of the inner products over their total; with
    the eigenvector u of the largest eigenvalue, the projection of Δᵢ is uᵢ Σⱼ uⱼ Δⱼ.

    Args:
        products: <Δᵢ, Δⱼ>, [n, n] in float64.
        strength: share of the projection to take away.
        by: which direction is shared.
    """
    count = len(products)
    if by == "singular":
        top = torch.linalg.eigh(products)[1][:, -1]
        shared = torch.outer(top, top)
    else:
        total = products.sum()
        shares = products.sum(dim=1) / total if total > 0 else products.new_zeros(count)
        shared = shares[:, None].expand(count, count)
    return torch.eye(count, dtype=torch.float64) - strength * shared


def _side(sides: Sequence[Deltas], strength: float, by: Direction, per_tensor: bool) -> list[dict[str, Delta]]:
    names = sorted({name for deltas in sides for name in deltas})
    products = {name: _products(sides, name) for name in names}
    whole = mixing(sum(products.values(), torch.zeros(len(sides), len(sides)).double()), strength, by)
    found: list[dict[str, Delta]] = [{} for _ in sides]
    for name in names:
        weights = mixing(products[name], strength, by) if per_tensor else whole
        for mixed, row in zip(found, weights.tolist(), strict=True):
            terms = [
                deltas[name] if weight == 1.0 else deltas[name].scaled(weight)
                for deltas, weight in zip(sides, row, strict=True)
                if name in deltas and weight
            ]
            if terms:
                mixed[name] = reduce(add, terms)
    return found


def _products(sides: Sequence[Deltas], name: str) -> torch.Tensor:
    changed = torch.tensor([i for i, deltas in enumerate(sides) if name in deltas])
    products = torch.zeros(len(sides), len(sides), dtype=torch.float64)
    products[changed[:, None], changed] = gram([deltas[name] for deltas in sides if name in deltas], tensor=name)
    return products


def _most_rank(vector: AlignmentVector) -> int:
    ranks = [delta.rank for part in vector.parts for delta in part.deltas.values() if isinstance(delta, LowRankDelta)]
    return max(ranks, default=0)


def _cut(vector: AlignmentVector, rank: int) -> AlignmentVector:
    """The vector with low-rank deltas of at most `rank`, and what that costs in its card."""
    error = total = 0.0

    def cut(deltas: Deltas) -> dict[str, Delta]:
        nonlocal error, total
        found: dict[str, Delta] = {}
        for name, delta in deltas.items():
            found[name] = delta
            if isinstance(delta, LowRankDelta):
                if delta.rank > rank > 0:
                    found[name] = compress_delta(delta, Form("rank", rank), generator=torch.Generator())
                off, whole = squared_error(delta, found[name])
                error, total = error + off, total + whole
        return found

    positive = cut(vector.positive)
    negative = None if vector.negative is None else cut(vector.negative)
    known = dict(vector.card.error)
    if error:
        known["rank_cut"] = max((error / total) ** 0.5, known.get("rank_cut", 0.0))
    return AlignmentVector(vector.card.model_copy(update={"error": known}), positive, negative)


def _card(card: Card, cards: Sequence[Card], how: Mapping[str, Any]) -> Card:
    note = f"less {how['strength']:g} of what {', '.join(how['of'])} share ({how['by']})"
    return card.model_copy(
        update={
            "method": "disentangled",
            "recipe": {**card.recipe, **how},
            "notes": "; ".join(filter(None, [card.notes, note])),
            **UNMEASURED,
            "error": joined_error(*cards),
            "source": joined_source(*cards),
            "licence": joined_licence(*cards),
            "files": {},
            "tensors": {},
        }
    )


def _require_alike(vectors: Sequence[AlignmentVector]) -> None:
    if len(vectors) < 2:
        raise VectorError("vectors have something in common from two on; give two or more")
    first = vectors[0]
    for i, vector in enumerate(vectors[1:], start=1):
        one, other = first.card, vector.card
        if one.base.fingerprint != other.base.fingerprint:
            raise VectorError(
                f"vectors {one.name!r} and {other.name!r} belong to different bases ({one.base.name!r}, "
                f"{other.base.name!r}); give vectors for one base"
            )
        if one.form != other.form:
            raise VectorError(
                f"vector {one.name!r} is {one.form} and {other.name!r} is {other.form}; give vectors of one form"
            )
        if any(vector.name == earlier.name for earlier in vectors[:i]):
            raise VectorError(f"two vectors are named {vector.name!r}; rename one in its card.json")
