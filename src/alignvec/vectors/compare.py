"""How alike vectors are: inner products, norms and cosines of deltas, by layer and in all.

Low-rank deltas are compared through their factors, everything else a few rows at a time, all in float64.
"""

import re
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict

from alignvec.errors import VectorError
from alignvec.vectors.delta import Delta, LowRankDelta
from alignvec.vectors.vector import AlignmentVector, Deltas

_BLOCK = 1 << 20
"""Entries of one delta that are held at once."""
_ROUNDING = 1e-13
"""Share of its terms below which a sum is nothing but their rounding in float64."""


class Similarity(BaseModel):
    """Sizes and directions of several deltas.

    Attributes:
        norms: Frobenius norm ‖Δ‖ of each.
        cosines: <Δᵢ, Δⱼ> / (‖Δᵢ‖ ‖Δⱼ‖); None where a norm is zero.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    norms: tuple[float, ...]
    cosines: tuple[tuple[float | None, ...], ...]


class Comparison(BaseModel):
    """Several vectors compared.

    Attributes:
        labels: the vectors' names, the two sides of a hinged one as `name+` and `name-`.
        total: the vectors as a whole.
        layers: the tensors of each layer by its number, then those outside by module, such as `embed_tokens`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: tuple[str, ...]
    total: Similarity
    layers: dict[str, Similarity]


def compare(vectors: Sequence[AlignmentVector], *, allow_other_base: bool = False) -> Comparison:
    """Norms and cosines of vectors in all and by layer; a tensor that a vector does not change is zero in it.

    A name that stands twice is told apart as `name` and `name#2`.

    Raises:
        VectorError: if there is nothing to compare, the bases differ (and `allow_other_base` is not set), a tensor has
            another shape in each vector, or a delta is damaged or not finite.
    """
    if not allow_other_base:
        _require_one_base(vectors)
    sides = _sides(vectors)
    if len(sides) < 2:
        given = f"only {next(iter(sides))!r} was" if sides else "none were"
        raise VectorError(f"comparing takes two vectors, or a hinged one for its two sides, but {given} given")
    total = torch.zeros(len(sides), len(sides), dtype=torch.float64)
    layers: dict[str, torch.Tensor] = {}
    for name in sorted({name for deltas in sides.values() for name in deltas}):
        changed = torch.tensor([name in deltas for deltas in sides.values()])
        products = gram([deltas[name] for deltas in sides.values() if name in deltas], tensor=name)
        for sums in (total, layers.setdefault(_layer(name), torch.zeros_like(total))):
            sums[_pairs(changed, changed)] += products
    return Comparison(
        labels=tuple(sides),
        total=_similarity(total),
        layers={layer: _similarity(layers[layer]) for layer in sorted(layers, key=_numbers_first)},
    )


def inner(first: Delta, second: Delta) -> float:
    """<ΔW₁, ΔW₂>, the sum of the products of their entries.

    Raises:
        VectorError: if the shapes differ, or a delta is damaged or not finite.
    """
    return gram([first, second])[0, 1].item()


def gram(deltas: Sequence[Delta], *, tensor: str = "the tensor") -> torch.Tensor:
    """Inner products of all pairs of deltas of one weight, [n, n] in float64; each delta is read once.

    Two low-rank deltas: sum((b₁ᵀ b₂) ∘ (a₁ a₂ᵀ)). A low-rank one and another D: sum((bᵀ D) ∘ a) over blocks of rows.

    Args:
        tensor: the weight's name, for errors.

    Raises:
        VectorError: if the shapes differ, or a delta is damaged or not finite.
    """
    shape = deltas[0].shape
    if other := next((delta.shape for delta in deltas if delta.shape != shape), None):
        raise VectorError(
            f"{tensor} has shape {list(shape)} in one vector and {list(other)} in another; "
            "compare vectors for one architecture"
        )
    found = torch.zeros(len(deltas), len(deltas), dtype=torch.float64)
    low = torch.tensor([isinstance(delta, LowRankDelta) for delta in deltas])
    factors = [delta for delta in deltas if isinstance(delta, LowRankDelta)]
    others = [delta for delta in deltas if not isinstance(delta, LowRankDelta)]
    if factors:
        a, b = torch.cat([d.a.double() for d in factors]), torch.cat([d.b.double() for d in factors], dim=1)
        owner = torch.eye(len(factors)).double().repeat_interleave(torch.tensor([d.rank for d in factors]), dim=0)
        terms = (b.T @ b) * (a @ a.T)
        products, sizes = owner.T @ terms @ owner, owner.T @ terms.abs() @ owner
        found[_pairs(low, low)] = products.where(products.abs() > _ROUNDING * sizes, 0.0)
    if others:
        length, columns = shape[0] if shape else 1, shape[1:].numel()
        starts = range(0, length, max(_BLOCK // max(columns, 1), 1))
        # strict: a stream checks its hash only when it is asked for more than it has
        for start, *blocks in zip(starts, *(delta.stream(starts.step) for delta in others), strict=True):
            stop = min(start + starts.step, length)
            rows = torch.stack([block.double().view(stop - start, columns) for block in blocks])
            found[_pairs(~low, ~low)] += rows.flatten(1) @ rows.flatten(1).T
            if factors:
                mixed = ((b[start:stop].T @ rows) * a).sum(dim=2) @ owner
                found[_pairs(~low, low)] += mixed
                found[_pairs(low, ~low)] += mixed.T
    if not torch.isfinite(found).all():
        raise VectorError(f"{tensor} has values that are not finite in a vector; copy or make the vector again")
    return found


def _pairs(rows: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return rows.nonzero(), columns.nonzero()[:, 0]


def _require_one_base(vectors: Sequence[AlignmentVector]) -> None:
    for vector in vectors[1:]:
        one, other = vectors[0].card, vector.card
        if one.base.fingerprint != other.base.fingerprint:
            raise VectorError(
                f"vectors {one.name!r} and {other.name!r} belong to different bases ({one.base.name!r}, "
                f"{one.base.fingerprint[:12]}; {other.base.name!r}, {other.base.fingerprint[:12]}), between which "
                "directions mean little; pass --allow-other-base to compare them all the same"
            )


def _sides(vectors: Sequence[AlignmentVector]) -> dict[str, Deltas]:
    sides: dict[str, Deltas] = {}
    names: list[str] = []
    for vector in vectors:
        names.append(vector.name)
        times = names.count(vector.name)
        label = vector.name if times == 1 else f"{vector.name}#{times}"
        for part in vector.parts:
            sides[label + {0: "", 1: "+", -1: "-"}[part.sign]] = part.deltas
    return sides


def _layer(name: str) -> str:
    number = re.search(r"\.(\d+)\.", name)
    return number[1] if number else name.split(".")[-2:][0]


def _numbers_first(layer: str) -> tuple[bool, int, str]:
    return (False, int(layer), "") if layer.isdigit() else (True, 0, layer)


def _similarity(products: torch.Tensor) -> Similarity:
    squares = products.diagonal().clamp(min=0)
    cosines = (products / torch.outer(squares, squares).sqrt()).clamp(-1, 1)
    known = torch.outer(squares, squares) > 0
    return Similarity(
        norms=tuple(squares.sqrt().tolist()),
        cosines=tuple(
            tuple(value if is_known else None for value, is_known in zip(*row, strict=True))
            for row in zip(cosines.tolist(), known.tolist(), strict=True)
        ),
    )
