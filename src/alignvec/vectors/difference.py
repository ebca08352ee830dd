"""θ_aligned − θ_base of two checkpoints of one architecture, scanned tensor by tensor and left on disk."""

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch

from alignvec.errors import VectorError
from alignvec.vectors.card import Source
from alignvec.vectors.checkpoint import Checkpoint, open_checkpoint, tied_twin
from alignvec.vectors.delta import Delta
from alignvec.vectors.mismatch import POLICIES, Mismatch
from alignvec.vectors.stored import DifferenceDelta
from alignvec.vectors.tensorfile import Entry

_BLOCK = 1 << 22
_SAMPLE = 1 << 14


def difference(
    base: Path,
    aligned: Path,
    *,
    allow: Collection[str] = (),
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[dict[str, Delta], Source]:
    """Differences of two checkpoint folders, sharded or not; equal tensors are left out.

    Args:
        base: folder of the base model.
        aligned: folder of the model that was trained from it.
        allow: what to do about tensors that do not match; see `POLICIES`. Each is refused unless it is named.
        advance: told the tensors that were compared, and all.

    Raises:
        VectorError: if tensors do not match, are not finite, or are all equal.
    """
    old, new = open_checkpoint(base), open_checkpoint(aligned)
    pairs, left_out = _pairs(old, new, allow)
    tally, deltas = _Tally(), dict[str, Delta]()
    for before, after in pairs:
        if (dtype := _scan(old, new, before, after, tally)) is not None:
            deltas[before.name] = DifferenceDelta((old.reader, before), (new.reader, after), dtype)
        advance(1, len(pairs))
    if not deltas:
        raise VectorError(f"{aligned} has the same weights as {base}, so there is nothing to extract")
    return deltas, tally.source(left_out)


def _pairs(old: Checkpoint, new: Checkpoint, allow: Collection[str]) -> tuple[list[tuple[Entry, Entry]], list[str]]:
    """Tensors to subtract, and notes on those that a policy changes; refuses the rest, all listed."""
    troubles: list[tuple[str, str, Mismatch | None]] = []
    pairs: list[tuple[Entry, Entry]] = []
    for name in sorted(old.entries.keys() | new.entries.keys()):
        # a stored copy of a tied embedding says nothing of its own
        before, after = (None if tied_twin(c, name) else c.entries.get(name) for c in (old, new))
        if before is None or after is None:
            here, there, other = ("aligned model", "base", old) if before is None else ("base", "aligned model", new)
            if before or after:
                text = f"{name} is in the {here} only"
                if tied_twin(other, name):
                    text = f"{name} is a head of its own in the {here} and tied in the {there}"
                troubles.append((name, text, Mismatch.MISSING))
            continue
        numbers = before.is_float and after.is_float
        if before.shape != after.shape:
            grown = numbers and before.shape[1:] == after.shape[1:] and _has_vocabulary(name)
            text = f"{name} is {list(before.shape)} in the base and {list(after.shape)} in the aligned model"
            troubles.append((name, text, Mismatch.VOCABULARY if grown else None))
        if before.code != after.code:
            text = f"{name} is {before.code} in the base and {after.code} in the aligned model"
            troubles.append((name, text, Mismatch.DTYPE if numbers else None))
        if numbers:
            pairs.append((before, after))
        elif (before.shape, before.code) == (after.shape, after.code) and not _same_bytes(old, new, before, after):
            troubles.append((name, f"{name} ({before.code}) holds no numbers to subtract, and differs", None))
    refused = [trouble for trouble in troubles if trouble[2] is None or trouble[2] not in allow]
    if refused:
        shown = "; ".join(text for _, text, _ in refused[:_SHOWN])
        more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        policies = sorted({policy for *_, policy in refused if policy})
        advice = "both must be checkpoints of one architecture"
        if all(policy for *_, policy in refused):
            advice = ", ".join(f"--allow {policy} to {POLICIES[policy]}" for policy in policies)
            advice += f" (in a merge recipe, beside the knob's model: allow: [{', '.join(policies)}])"
        names = {name for name, *_ in refused}
        raise VectorError(f"{new.folder} does not match {old.folder} in {len(names)} tensors: {shown}{more}; {advice}")
    return pairs, [text for _, text, _ in troubles]


_SHOWN = 5


def _has_vocabulary(name: str) -> bool:
    return any(part in name for part in ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out"))


def _same_bytes(old: Checkpoint, new: Checkpoint, before: Entry, after: Entry) -> bool:
    stops = [(start, min(start + _BLOCK, before.size)) for start in range(0, before.size, _BLOCK)]
    return all(torch.equal(old.reader.raw(before, *stop), new.reader.raw(after, *stop)) for stop in stops)


def _scan(old: Checkpoint, new: Checkpoint, before: Entry, after: Entry, tally: "_Tally") -> torch.dtype | None:
    """Smallest dtype that holds the difference exactly; None if there is none."""
    rows = min(before.rows, after.rows)
    step = max(_BLOCK // max(before.row_bytes // before.dtype.itemsize, 1), 1)
    exact = {torch.bfloat16: True, torch.float16: True}
    zeros, changed = 0, False
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        a, b = old.reader.rows(before, start, stop), new.reader.rows(after, start, stop)
        if before.code == after.code and torch.equal(a, b):
            zeros += a.numel()
            continue
        a, b = a.float(), b.float()
        delta = b - a
        if not torch.isfinite(delta).all():
            where = new.folder if torch.isfinite(a).all() else old.folder
            raise VectorError(f"tensor {before.name} of {where} has values that are not finite; the model is damaged")
        for dtype, so_far in exact.items():
            exact[dtype] = so_far and torch.equal(delta.to(dtype).float(), delta)
        zeros += int((delta == 0).sum())
        changed = changed or bool(delta.any())
        tally.observe(a, b, delta)
    if not changed:
        return None
    tally.entries += rows * before.row_bytes // before.dtype.itemsize
    tally.zeros += zeros
    return next((dtype for dtype, fits in exact.items() if fits), torch.float32)


@dataclass
class _Tally:
    """What a scan has seen of the changed tensors."""

    entries: int = 0
    zeros: int = 0
    on_grid: dict[torch.dtype, bool] = field(default_factory=lambda: {torch.bfloat16: True, torch.float16: True})
    ratios: dict[torch.dtype, list[torch.Tensor]] = field(
        default_factory=lambda: {torch.bfloat16: [], torch.float16: []}
    )

    squares: dict[torch.dtype | None, float] = field(default_factory=lambda: defaultdict(float))
    """‖Δ‖² under None, ‖round(θ_base) − θ_base‖² under the grid's dtype."""

    def observe(self, before: torch.Tensor, after: torch.Tensor, delta: torch.Tensor) -> None:
        """Take in a block of rows that are not all equal."""
        for dtype, so_far in self.on_grid.items():
            self.on_grid[dtype] = so_far and torch.equal(after.to(dtype).float(), after)
            if self.on_grid[dtype]:
                self.squares[dtype] += (before.to(dtype).float() - before).square().sum().item()
        self.squares[None] += delta.square().sum().item()
        flat, weight = delta.reshape(-1), after.reshape(-1)
        stride = max(flat.numel() // _SAMPLE, 1)
        flat, weight = flat[::stride], weight[::stride]
        kept = flat != 0
        size, weight = flat[kept].abs(), weight[kept]
        _, exponent = torch.frexp(torch.where(weight == 0, size, weight))  # around 0 the grid has no one spacing
        for dtype, found in self.ratios.items():
            info = torch.finfo(dtype)
            spacing = (info.eps * torch.exp2(exponent - 1)).clamp_min(info.smallest_normal * info.eps)
            found.append(size / spacing)

    def source(self, left_out: list[str]) -> Source:
        """The figures."""
        dtype = next((d for d, fits in self.on_grid.items() if fits), None)
        sample = torch.cat(self.ratios[dtype or torch.bfloat16])
        return Source(
            grid="float32" if dtype is None else "bfloat16" if dtype is torch.bfloat16 else "float16",
            zero_share=self.zeros / self.entries,
            delta_ulp=float(sample.median()) if len(sample) else 0.0,
            left_out=left_out,
            base_rounding=(self.squares[dtype] / self.squares[None]) ** 0.5 if dtype else 0.0,
        )
