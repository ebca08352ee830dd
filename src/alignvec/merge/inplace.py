"""Dense knobs in place: every turn rebuilds W = round(base + Σ gate·Δ) from the untouched base, so nothing drifts."""

from collections.abc import Mapping, Sequence

import torch

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
        self._dense = [{n: d.dense().to(weights[n].device) for n, d in part.deltas.items()} for part in parts]

    @torch.no_grad()
    def turn(self, gates: Sequence[float]) -> None:
        """Set every weight to base + Σ gate·Δ, accumulated in float32 and rounded once.

        Args:
            gates: one number a part.
        """
        for name, live in self._live.items():
            terms = [(g, d[name]) for g, d in zip(gates, self._dense, strict=True) if g and name in d]
            base = self._base[name]
            if not terms:
                live.copy_(base)
            elif live.dtype == torch.float32:
                torch.add(base, terms[0][1], alpha=terms[0][0], out=live)
                for gate, delta in terms[1:]:
                    live.add_(delta, alpha=gate)
            else:
                total = base.float()
                for gate, delta in terms:
                    total.add_(delta, alpha=gate)
                live.copy_(total)

    def restore(self) -> None:
        """Set every weight to the base's, bit for bit."""
        self.turn([0.0] * len(self._parts))
