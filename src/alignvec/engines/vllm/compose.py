"""Knobs on stock vLLM: each setting as an adapter of its own, composed when it is first asked for."""

import itertools
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import torch
from filelock import FileLock, Timeout

from alignvec.engines.stack import write_adapter
from alignvec.engines.vllm.plan import Plan, setting_rank
from alignvec.errors import KnobError
from alignvec.merge.export import compose
from alignvec.steer.knobs import format_knobs, parse_knobs
from alignvec.steer.solved import names_setting
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.vector import AlignmentVector


def rounded(value: float, step: float, low: float, high: float) -> float:
    """The multiple of `step` nearest to λ among those from `low` to `high`; λ itself if there is none.

    So a limit is never passed by rounding, and what a policy forces between two multiples holds as it is.
    """
    near = round(value / step)
    found = [round(n * step, 9) for n in (near, near - 1, near + 1) if low <= n * step <= high]
    return sorted(found, key=lambda x: abs(x - value))[0] + 0.0 if found else value


class Composer:
    """Settings as adapter folders, the least recently used of which go when there are too many.

    Args:
        plan: see `Plan`.
        vectors: those of the plan.
    """

    def __init__(self, plan: Plan, vectors: Sequence[AlignmentVector]) -> None:
        self._plan, self._vectors = plan, vectors
        self._folder, self._held = _own_folder(plan.cache)
        self._numbers = itertools.count()
        self._known: OrderedDict[str, Path] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Names of the vectors."""
        return [vector.name for vector in self._vectors]

    def name(self, knobs: Mapping[str, float]) -> str:
        """Model name of a setting, the same whatever the order of its knobs; the base's own if nothing is turned."""
        turned = {v.name: knobs[v.name] for v in self._vectors if knobs.get(v.name)}
        plain = not turned and not self._plan.base_adapter
        return self._plan.model if plain else f"{self._plan.model}:{format_knobs(turned)}"

    def check(self, knobs: Mapping[str, float]) -> None:
        """Check that an adapter can hold a setting.

        Raises:
            KnobError: if it needs more rank than the server was started with.
        """
        if (rank := setting_rank(self._vectors, knobs)) > self._plan.rank:
            raise KnobError(
                f"{format_knobs(knobs)} needs rank {rank}, but this server was started with --max-lora-rank "
                f"{self._plan.rank}; turn fewer knobs, or start it with more"
            )

    def folder(self, name: str) -> Path | None:
        """The adapter of a setting by its model name, composed if it has to be; None for any other model.

        Raises:
            KnobError: if the knobs cannot be read or need too much rank.
            StorageError: if it cannot be written.
        """
        prefix = f"{self._plan.model}:"
        if not name.startswith(prefix):
            return None
        if names_setting(text := name.removeprefix(prefix)):
            raise KnobError(f"{name[:80]!r} is no setting of this server; name knobs")
        knobs = parse_knobs(text)
        if self.name(knobs) != name:
            raise KnobError(f"{name[:80]!r} is no setting of this server; use {self.name(knobs)!r}")
        self.check(knobs)
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
                return self._known[name]
            place = self._folder / str(next(self._numbers))
        write_adapter(compose(self._vectors, knobs) if knobs else self._zeros(), self._plan.model, place)
        with self._lock:
            return self._known.setdefault(name, place)

    def _zeros(self) -> dict[str, LowRankDelta]:
        shapes = {name: delta.shape for v in self._vectors for part in v.parts for name, delta in part.deltas.items()}
        return {name: LowRankDelta(torch.zeros(1, width), torch.zeros(out, 1)) for name, (out, width) in shapes.items()}

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Keep a setting's adapter while the block runs."""
        with self._lock:
            self._running[name] += 1
            if name in self._known:
                self._known.move_to_end(name)
        try:
            yield
        finally:
            with self._lock:
                self._running[name] -= 1
                if not self._running[name]:
                    del self._running[name]

    def is_running(self, name: str) -> bool:
        """Whether a request uses a setting."""
        return name in self._running

    def retire(self) -> dict[str, Path]:
        """Give up the least recently used adapters beyond the bound that no request is using.

        Returns:
            Their names and folders, which are the caller's to delete.
        """
        with self._lock:
            idle = [name for name in self._known if name not in self._running]
            over = max(len(self._known) - self._plan.settings, 0)
            return {name: self._known.pop(name) for name in idle[:over]}


def _own_folder(cache: Path) -> tuple[Path, FileLock]:
    """A folder of this object, and the lock that says so as long as it lives; those without a holder are deleted."""
    for lock in (FileLock(path) for path in cache.glob("adapters-*.lock")):
        with suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(Path(lock.lock_file).with_suffix(""), ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
    while True:
        folder = cache / f"adapters-{token_hex(8)}"
        held = FileLock(folder.with_suffix(".lock"))
        held.acquire()
        if Path(held.lock_file).exists():  # or another process has just cleaned it away
            folder.mkdir()
            return folder, held
