"""Dense knobs in place: every turn rebuilds W = round(base + Σ gate·Δ) from the untouched base, so nothing drifts."""

from collections.abc import Mapping, Sequence

import torch

from alignvec.vectors.delta import Delta, DenseDelta
from alignvec.vectors.vector import Part, check_targets


class InplaceKnob:
    """Writes deltas into a model's weights, and takes them out again bit for bit.

    Args:
        weights: tensor name to the live tensor of the model.
        parts: what may be added; each tensor they name is copied once, as the pristine base.

    Raises:
        VectorError: if a part names a tensor that the model lacks, or of another shape.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        names = sorted({name for part in parts for name in part.deltas})
        for part in parts:
            check_targets(part.vector, part.deltas, weights)
        self._live = {name: weights[name] for name in names}
        self._base = {name: weights[name].detach().clone() for name in names}
        self._dense = [{n: _values(d, weights[n]) for n, d in part.deltas.items()} for part in parts]

    @torch.no_grad()
    def turn(self, gates: Sequence[float]) -> None:
        """Set every weight to base + Σ gate·Δ, accumulated in float32 and rounded once.

        Args:
            gates: one number a part.
        """
        for name, live in self._live.items():
            terms = [(g, d[name]) for g, d in zip(gates, self._dense, strict=True) if g and name in d]
            if not terms:
                live.copy_(self._base[name])
                continue
            total = self._base[name] if len(terms) == 1 else self._base[name].float()
            for gate, delta in terms[:-1]:
                total = torch.add(total, delta, alpha=gate, out=live if live.dtype == torch.float32 else None)
            gate, delta = terms[-1]
            torch.add(total, delta, alpha=gate, out=live)  # one pass: read, add in float32, round, write

    def restore(self) -> None:
        """Set every weight to the base's, bit for bit."""
        self.turn([0.0] * len(self._parts))


def _values(delta: Delta, weight: torch.Tensor) -> torch.Tensor:
    """ΔW beside the weight, in float32 or, on a GPU, as it is kept: it is read at every turn.

    On the CPU two tensors of one small dtype would be added with λ rounded to it; CUDA's kernel has λ in float32.
    """
    if isinstance(delta, DenseDelta) and weight.is_cuda:
        return delta.value.to(weight.device)
    return delta.dense().to(weight.device)
