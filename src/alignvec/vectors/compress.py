"""Smaller forms of a vector, with the error that each makes in the weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
import xxhash

from alignvec.errors import ConfigError, VectorError
from alignvec.vectors.card import UNMEASURED
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta, rank_for, refactored
from alignvec.vectors.packed import to_signs, to_sparse
from alignvec.vectors.vector import AlignmentVector, Deltas

FORMS: Final = {
    "rank": "low rank: this many singular values a tensor",
    "size": "low rank: factors of this share of the dense 16-bit size, such as 1/16",
    "energy": "low rank: as many singular values a tensor as hold this share of its squared norm",
    "topk": "sparse: this share of the entries, the largest",
    "dare": "sparse: entries dropped at random with this probability, the rest rescaled (DARE)",
    "sign": "one bit an entry and a scale a tensor (BitDelta)",
    "dense": "every entry in 16 bits",
}
_OVERSAMPLING = 8
_POWER_ITERATIONS = 2


@dataclass(frozen=True)
class Form:
    """How to compress: a key of `FORMS` and its number (0 where it has none)."""

    kind: str
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}={self.value:.10g}" if self.kind in _RANGES else self.kind

    @property
    def slug(self) -> str:
        """The form as the name of a folder or a knob."""
        return str(self).replace("=", "-")


_RANGES: Final[Mapping[str, Callable[[float], bool]]] = {
    "rank": lambda x: x >= 1 and x.is_integer(),
    "size": lambda x: 0 < x < 1,
    "energy": lambda x: 0 < x <= 1,
    "topk": lambda x: 0 < x <= 1,
    "dare": lambda x: 0 <= x < 1,
}


def parse_form(text: str) -> Form:
    """Parse `rank=16`, `size=1/16`, `energy=0.9`, `topk=0.02`, `dare=0.9`, `sign` or `dense`.

    Raises:
        ConfigError: if the form is unknown or its number is out of range.
    """
    kind, equals, value = text.strip().partition("=")
    if kind not in FORMS:
        raise ConfigError(f"unknown form {kind!r} (have: {'; '.join(f'{k}: {v}' for k, v in FORMS.items())})")
    if kind not in _RANGES:
        if equals:
            raise ConfigError(f"form {kind!r} takes no number; write {kind}")
        return Form(kind)
    match = re.fullmatch(r"([0-9.eE+-]+)(?:/([0-9.]+))?", value)
    try:
        number = float(match[1]) / float(match[2] or 1) if match else float("nan")
    except (ValueError, ZeroDivisionError):
        number = float("nan")
    if not _RANGES[kind](number):
        raise ConfigError(f"form {text!r}: {value!r} is out of range; write it like size=1/16, rank=16 or {kind}=0.9")
    return Form(kind, number)


def compress(
    vector: AlignmentVector,
    form: Form,
    *,
    svd: Literal["randomised", "exact"] = "randomised",
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> AlignmentVector:
    """The vector in a smaller form, one tensor in memory at a time.

    Matrices (embeddings included) are compressed; norms and biases stay as they are, in 16 bits. The card gets the
    relative error ‖Δ' − Δ‖/‖Δ‖ over all tensors as `compression`.

    Args:
        svd: how singular vectors of a dense matrix are found; low-rank deltas are always exact.
        seed: of what is drawn at random.
        advance: told the tensors done.

    Raises:
        VectorError: if the vector is compressed already: its error would be told against itself, not the original.
    """
    require_whole(vector)
    error = total = 0.0

    def side(deltas: Deltas) -> dict[str, Delta]:
        nonlocal error, total
        found: dict[str, Delta] = {}
        for name in sorted(deltas):
            generator = torch.Generator().manual_seed(xxhash.xxh64_intdigest(f"{seed} {name}".encode()) >> 1)
            found[name] = compress_delta(deltas[name], form, svd=svd, generator=generator)
            off, whole = squared_error(deltas[name], found[name])
            error, total = error + off, total + whole
            advance(1)
        return found

    positive = side(vector.positive)
    negative = None if vector.negative is None else side(vector.negative)
    card = vector.card.model_copy(
        update={
            "error": {**vector.card.error, "compression": (error / total) ** 0.5 if total else 0.0},
            "notes": "; ".join(filter(None, [vector.card.notes, f"compressed to {form}"])),
            **UNMEASURED,
            "files": {},
            "tensors": {},
        }
    )
    return AlignmentVector(card, positive, negative)


def require_whole(vector: AlignmentVector) -> None:
    """Check that a vector is not compressed.

    Raises:
        VectorError: if it is: what a second time loses beside the original could not be told.
    """
    if "compression" in vector.card.error:
        raise VectorError(
            f"vector {vector.name!r} is compressed already, and what a second time loses beside the original cannot "
            "be told; compress the original"
        )


def compress_delta(
    delta: Delta, form: Form, *, svd: Literal["randomised", "exact"] = "randomised", generator: torch.Generator
) -> Delta:
    """One tensor's delta in a smaller form; a vector or scalar (norm, bias) in 16 bits."""
    if len(delta.shape) != 2 or min(delta.shape) < 2 or form.kind == "dense":
        return DenseDelta(delta.dense().to(torch.bfloat16))
    if form.kind in ("rank", "size", "energy"):
        found = _low_rank(delta, form, svd, generator)
        return LowRankDelta(found.a.half(), found.b.half())
    value = delta.dense()
    if form.kind == "sign":
        return to_signs(value)
    if form.kind == "dare":
        kept = torch.rand(value.shape, generator=generator) >= form.value
        return to_sparse((value / (1 - form.value)).to(torch.bfloat16), kept & (value != 0))
    return to_sparse(value.to(torch.bfloat16), _largest(value, max(round(form.value * value.numel()), 1)))


def _largest(value: torch.Tensor, count: int) -> torch.Tensor:
    """Where the `count` largest entries are, the first of equal ones; zeros are never among them."""
    size = value.abs().flatten()
    threshold = size.kthvalue(size.numel() - count + 1).values
    kept = size > threshold
    if threshold > 0:  # the difference of two rounded models has few distinct values, so ties may be many
        kept[(size == threshold).nonzero().flatten()[: count - int(kept.sum())]] = True
    return kept.view_as(value)


def squared_error(delta: Delta, other: Delta) -> tuple[float, float]:
    """‖Δ' − Δ‖² and ‖Δ‖², a block of rows at a time."""
    step = max((1 << 22) // max(delta.shape[1:].numel(), 1), 1)
    error = total = 0.0
    for a, b in zip(delta.stream(step), other.stream(step), strict=True):
        error += (b - a).square().sum(dtype=torch.float64).item()
        total += a.square().sum(dtype=torch.float64).item()
    return error, total


def dense_bytes(vector: AlignmentVector) -> int:
    """Bytes that the vector would take with every entry of every changed tensor in 16 bits."""
    return sum(2 * delta.shape.numel() for part in vector.parts for delta in part.deltas.values())


def stored_bytes(vector: AlignmentVector) -> int:
    """Bytes of the vector's tensors as they are kept."""
    return sum(delta.nbytes for part in vector.parts for delta in part.deltas.values())


def _low_rank(
    delta: Delta, form: Form, svd: Literal["randomised", "exact"], generator: torch.Generator
) -> LowRankDelta:
    rows, columns = delta.shape
    share = form.value if form.kind == "size" else 0.0
    wanted = int(share * rows * columns / (rows + columns)) if share else int(form.value)
    rank = None if form.kind == "energy" else min(max(wanted, 1), min(delta.shape))
    energy = form.value if form.kind == "energy" else 1.0
    if isinstance(delta, LowRankDelta):
        return refactored(replace(delta, a=delta.a.float(), b=delta.b.float()), rank=rank, energy=energy)
    value = delta.dense()
    if svd == "exact":
        return _exact(value, rank, energy)
    return _randomised(value, rank, energy, generator)


def _exact(value: torch.Tensor, rank: int | None, energy: float) -> LowRankDelta:
    """Best low-rank approximation, through the eigenvectors of the smaller Gram matrix in float64."""
    if value.shape[0] > value.shape[1]:
        flipped = _exact(value.T, rank, energy)
        return LowRankDelta(flipped.b.T.contiguous(), flipped.a.T.contiguous())
    double = value.double()
    squares, vectors = torch.linalg.eigh(double @ double.T)
    values, vectors = squares.flip(0).clamp_min(0.0).sqrt(), vectors.flip(1)
    kept = rank_for(values, energy, max(value.shape), value.dtype) if rank is None else rank
    return _balanced(vectors[:, :kept].float(), value, values[:kept].float())


def _randomised(value: torch.Tensor, rank: int | None, energy: float, generator: torch.Generator) -> LowRankDelta:
    """Halko, Martinsson and Tropp 2011, algorithm 4.4; for an energy target the sketch doubles until it holds it."""
    if value.shape[0] > value.shape[1]:
        flipped = _randomised(value.T, rank, energy, generator)
        return LowRankDelta(flipped.b.T.contiguous(), flipped.a.T.contiguous())
    total = value.square().sum(dtype=torch.float64)
    width = 32 if rank is None else rank + _OVERSAMPLING
    while True:
        if width >= value.shape[0] // 2:
            return _exact(value, rank, energy)
        sketch = torch.linalg.qr(value @ torch.randn(value.shape[1], width, generator=generator))[0]
        for _ in range(_POWER_ITERATIONS):
            sketch = torch.linalg.qr(value @ (value.T @ sketch))[0]
        inner = sketch.T @ value
        squares, vectors = torch.linalg.eigh((inner @ inner.T).double())
        values = squares.flip(0).clamp_min(0.0).sqrt()
        kept = rank
        if kept is None and values.square().sum() >= energy * total:
            kept = int((values.square().cumsum(0) < energy * total).sum()) + 1
        if kept is not None:
            return _balanced(sketch @ vectors.flip(1)[:, :kept].float(), value, values[:kept].float())
        width *= 2


def _balanced(left: torch.Tensor, value: torch.Tensor, values: torch.Tensor) -> LowRankDelta:
    """left @ (leftᵀ value), with the singular values split evenly over both factors."""
    info = torch.finfo(torch.float32)
    # a tensor of less rank than is kept: what stands beside singular values of zero is rounding, not to be blown up
    root = values.clamp_min(max(float(values[0]) * info.eps, info.tiny)).sqrt()
    return LowRankDelta(((left.T @ value) / root[:, None]).contiguous(), (left * root).contiguous())
