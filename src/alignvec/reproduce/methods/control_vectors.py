"""Control vectors: what the mean hidden state of replies at one level has that replies at other levels have not.

Mean differences as in steering-vectors (Rimsky et al. 2024, arXiv 2312.06681); repeng's default is their first
principal component.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ModelError, VectorError
from alignvec.files import atomic_folder
from alignvec.logprobs import EncodedReplies, pack
from alignvec.models import BaseModel
from alignvec.reproduce.methods.method import encoded
from alignvec.steer.stacked import check_rows
from alignvec.vectors.fingerprint import fingerprint

TENSORS, CARD = "control_vectors.safetensors", "control_vectors.json"


@dataclass(frozen=True, eq=False)
class ControlVectors:
    """Directions in the residual stream of one base model.

    Attributes:
        base: the model's fingerprint.
        directions: domain to level to [layers, width], float32: behind every layer, the mean hidden state of replies at
            that level minus the mean of those at the others.
        seconds: it took to find them.
    """

    base: str
    directions: dict[str, dict[str, torch.Tensor]]
    seconds: float

    @property
    def digest(self) -> str:
        """What the directions are known by."""
        found = hashlib.sha256()
        for domain in sorted(self.directions):
            for level in sorted(self.directions[domain]):
                found.update(f"{domain} {level}".encode())
                found.update(self.directions[domain][level].contiguous().numpy().tobytes())
        return found.hexdigest()[:16]


def find_control_vectors(
    base: BaseModel, rows: Sequence[PreferenceRow], *, advance: Callable[[str, int, int], None] = lambda *_: None
) -> ControlVectors:
    """Mean differences over training rows: of each reply the mean over its tokens, of a level the mean over replies.

    Args:
        base: the base model.
        rows: of one or several domains, with the same levels.
        advance: called with a task's name, what was done and the total.

    Raises:
        DataError: if rows differ in their levels, or one does not fit the model's context.
    """
    start = time.perf_counter()
    levels = levels_of(rows)
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    for row in rows:
        means = _reply_means(base, encoded(base, row.query, [row.responses[level] for level in levels]))
        sums[row.domain] = sums.get(row.domain, torch.zeros_like(means)) + means
        counts[row.domain] = counts.get(row.domain, 0) + 1
        advance("control vectors", 1, len(rows))
    directions: dict[str, dict[str, torch.Tensor]] = {}
    for domain, total in sums.items():
        mean = total / counts[domain]  # [levels, layers, width]
        others = (mean.sum(dim=0) - mean) / (len(levels) - 1)
        directions[domain] = {level: (mean[i] - others[i]).float() for i, level in enumerate(levels)}
    return ControlVectors(fingerprint(base.folder), directions, time.perf_counter() - start)


def save_control_vectors(found: ControlVectors, folder: Path) -> None:
    """Write them into a folder; an existing one is replaced as a whole.

    Raises:
        StorageError: if it cannot be written.
    """
    from safetensors.torch import save_file

    tensors = {
        f"{domain}/{level}": direction.contiguous()
        for domain, levels in found.directions.items()
        for level, direction in levels.items()
    }
    with atomic_folder(folder) as staging:
        save_file(tensors, staging / TENSORS)
        (staging / CARD).write_text(json.dumps({"base": found.base, "seconds": found.seconds}) + "\n", encoding="utf-8")


def load_control_vectors(folder: Path, base_fingerprint: str) -> ControlVectors:
    """Read them.

    Raises:
        VectorError: if there are none, they are damaged, or belong to another base.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        card = json.loads((folder / CARD).read_bytes())
        tensors = load_file(folder / TENSORS)
        base, seconds = str(card["base"]), float(card["seconds"])
    except FileNotFoundError:
        raise VectorError(f"no control vectors in {folder} ({CARD} and {TENSORS}); find them again") from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VectorError(f"{folder}: damaged control vectors ({cause}); find them again") from None
    if base != base_fingerprint:
        raise VectorError(f"{folder}: these control vectors belong to another base model; find this one's")
    directions: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise VectorError(f"{folder}: the control vector {name} has values that are not finite; find them again")
        domain, _, level = name.rpartition("/")
        directions.setdefault(domain, {})[level] = tensor
    return ControlVectors(base, directions, seconds)


@contextmanager
def added(base: BaseModel, layers: Sequence[int], shifts: torch.Tensor) -> Iterator[None]:
    """Add to the residual stream behind some layers, at every token, for the calls made inside.

    Args:
        base: the model.
        layers: numbers from 0.
        shifts: [rows, layers, width], one row for each of the batches that will be passed; where all rows are zero at a
            layer, no hook is set there.
    """
    modules, handles = decoder_layers(base), []
    try:
        for place, layer in enumerate(layers):
            if shifts[:, place].any():
                shift = shifts[:, place, None].to(device=base.device, dtype=base.model.dtype)
                handles.append(modules[layer].register_forward_hook(_adding(shift)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def decoder_layers(base: BaseModel) -> Sequence[torch.nn.Module]:
    """The model's decoder layers, first to last.

    Raises:
        ModelError: if they are not where Llama-like models have them.
    """
    layers: Any = getattr(getattr(base.model, "model", None), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ModelError(f"{base.name} has no decoder layers at model.layers; steering needs a Llama-like model")
    return list(layers)


def _adding(shift: torch.Tensor) -> Any:
    def add(_: torch.nn.Module, __: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        check_rows(shift.shape[0], hidden.shape[0])
        moved = hidden + shift
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    return add


def _reply_means(base: BaseModel, row: EncodedReplies) -> torch.Tensor:
    """Hidden state behind every layer, averaged over each reply's tokens, [replies, layers, width], float64."""
    states: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: Any, output: Any) -> None:
        states.append((output[0] if isinstance(output, tuple) else output)[0])

    handles = [layer.register_forward_hook(keep) for layer in decoder_layers(base)]
    batch = pack([row], pad_id=base.tokenizer.pad_token_id, dtype=base.model.dtype, device=base.device)
    try:
        with torch.no_grad():
            base.model.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            )
    finally:
        for handle in handles:
            handle.remove()
    start, means = len(row.prompt) - 1, []
    for reply in row.replies:
        end = start + 1 + len(reply)  # a segment is the prompt's last token and the reply
        means.append(torch.stack([state[start + 1 : end].double().mean(dim=0).cpu() for state in states]))
        start = end
    return torch.stack(means)
