"""Reference log-probabilities, computed once for a base and its data and shared by every run on them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from alignvec import processes
from alignvec.cache import cache_dir
from alignvec.files import write_text
from alignvec.logprobs import EncodedReplies
from alignvec.models import BaseModel
from alignvec.vectors.fingerprint import fingerprint


def cached_reference(
    base: BaseModel, encoded: Sequence[EncodedReplies], compute: Callable[[], list[list[float]]]
) -> list[list[float]]:
    """Summed log-probability of every reply under the base, [rows, replies], from the cache or computed and kept.

    Replies are cached one by one, so that runs with another order of levels, or another selection of rows, share them.
    """
    scope = hashlib.sha256(f"{fingerprint(base.folder)} {base.model.dtype}".encode()).hexdigest()[:16]
    path = cache_dir() / "reference" / f"{scope}.json"
    known = processes.on_main(lambda: _read(path))
    keys = [[_key(row.prompt, reply) for reply in row.replies] for row in encoded]
    if any(key not in known for row in keys for key in row):
        scores = compute()
        known |= {k: s for row, values in zip(keys, scores, strict=True) for k, s in zip(row, values, strict=True)}
        write_text(path, json.dumps(known))
    return [[known[key] for key in row] for row in keys]


def _read(path: Path) -> dict[str, float]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # not there yet, or damaged: computed again
        return {}


def _key(prompt: Sequence[int], reply: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps([prompt, reply]).encode()).hexdigest()[:24]
