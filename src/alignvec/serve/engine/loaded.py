"""The vectors that requests are served with, and their gates over a packed row."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from alignvec.allocator import give_back_freed_blocks
from alignvec.errors import VectorError
from alignvec.models import BaseModel
from alignvec.steer.knobs import check_knobs
from alignvec.steer.routed import domains_of
from alignvec.steer.rowwise import RowwiseModules, split
from alignvec.steer.scale import Scale, scale_of
from alignvec.steer.stacked import StackedLayers
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector


class LoadedVectors:
    """One set of vectors; a request keeps the set it started with when another is loaded.

    Args:
        base: the base model.
        vectors: made for it.
        allow_other_base: skip the fingerprint check.

    Raises:
        VectorError: if a vector belongs to another base, does not fit it, or cannot differ between requests; or if two
            have the same name.
    """

    def __init__(self, base: BaseModel, vectors: Sequence[AlignmentVector], *, allow_other_base: bool = False) -> None:
        self.vectors = {vector.name: vector for vector in vectors}
        self.scales: Mapping[str, Scale] = {name: scale_of(vector.card) for name, vector in self.vectors.items()}
        self.domains: Mapping[str, str] = domains_of(vectors)
        self.requests = 0
        if len(self.vectors) < len(vectors):
            raise VectorError("two vectors have the same name; rename one in its card.json, or load one at a time")
        if vectors and not allow_other_base:
            found, template = fingerprint(base.folder), template_hash(base.tokenizer)
            for vector in vectors:
                vector.require_base(found)
                vector.require_template(template)
        self.stacked, self.rowwise = [], []
        for vector in vectors:
            parts = split(base.model, vector)
            if parts is None:
                raise VectorError(
                    f"vector {vector.name!r} changes weights by more than low-rank factors, so requests cannot differ "
                    "in it; make it low-rank first: alignvec compress --method svd"
                )
            self.stacked += [part.stacked for part in parts]
            self.rowwise += [part.rowwise for part in parts]
        StackedLayers(base.model, self.stacked)  # says now, not in the middle of a batch, what does not fit
        RowwiseModules(base.model, self.rowwise)

    def gates(self, knobs: Mapping[str, float]) -> list[float]:
        """Gate of each part.

        Raises:
            KnobError: if a knob names no vector of the set, or has a coefficient that is not finite.
        """
        check_knobs(knobs, self.vectors)
        return [part.gate(knobs.get(part.vector, 0.0)) for part in self.stacked]


class PackedKnobs:
    """Turns knobs for batches that have the tokens of all requests in one row."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._sets: list[LoadedVectors] = []
        self._stacked = StackedLayers(model, [])
        self._rowwise = RowwiseModules(model, [])

    def turn(self, rows: Sequence[tuple[LoadedVectors, Sequence[float], int]], kept: Sequence[int]) -> None:
        """Set the gates of the next batch.

        Args:
            rows: per request, in the order of the packed row: its vectors, its gates, its number of tokens.
            kept: indices of the tokens that a next token is wanted for.
        """
        self._stack({id(loaded): loaded for loaded, _, _ in rows})
        starts, width = {}, 0
        for loaded in self._sets:
            starts[id(loaded)] = width
            width += len(loaded.stacked)
        table = torch.zeros(len(rows), width)
        for row, (loaded, gates, _) in enumerate(rows):
            start = starts[id(loaded)]
            table[row, start : start + len(gates)] = torch.tensor(gates)
        packed = table.repeat_interleave(torch.tensor([tokens for _, _, tokens in rows]), dim=0)
        seen = torch.tensor(kept, dtype=torch.long)
        self._stacked.turn_packed(packed, seen)
        self._rowwise.turn_packed(packed, seen)

    def close(self) -> None:
        """Take the hooks out."""
        self._stacked.close()
        self._rowwise.close()

    def _stack(self, needed: Mapping[int, LoadedVectors]) -> None:
        """Have the needed sets stacked, and none that no request uses any more."""
        kept = [loaded for loaded in self._sets if loaded.requests or id(loaded) in needed]
        new = [loaded for key, loaded in needed.items() if all(id(old) != key for old in kept)]
        if not new and len(kept) == len(self._sets):
            return
        self.close()
        before, self._sets = len(self._sets), kept + new
        self._stacked = StackedLayers(self._model, [part for loaded in self._sets for part in loaded.stacked])
        self._rowwise = RowwiseModules(self._model, [part for loaded in self._sets for part in loaded.rowwise])
        if len(self._sets) < before + len(new):
            give_back_freed_blocks()
