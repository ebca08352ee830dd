"""How processes split an optimiser step: by micro-batches, so that each is the very one that a single process takes."""

from collections.abc import Callable, Iterator
from typing import Any

from accelerate.data_loader import SeedableRandomSampler  # type: ignore[import-untyped]
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from alignvec import processes
from alignvec.errors import ConfigError


def own_accumulation(accumulate: int) -> int:
    """Micro-batches of an optimiser step that fall to each process, of `accumulate` in all.

    Raises:
        ConfigError: if they cannot be split evenly.
    """
    if accumulate % processes.count():
        whole = [str(n) for n in range(1, accumulate + 1) if accumulate % n == 0]
        raise ConfigError(
            f"{processes.count()} processes cannot split the {accumulate} micro-batches of an optimiser step evenly; "
            f"start {' or '.join(whole)} processes, or set accumulate to a multiple of {processes.count()}"
        )
    return accumulate // processes.count()


class OwnBatches(Sampler[list[int]]):
    """A process's share of the micro-batches of each step.

    All processes get as many; at the end of a pass, where there are not enough, some get empty ones.

    Args:
        rows: number of rows.
        batch_size: rows in a micro-batch.
        seed: of the order of the rows, which is that of the trainer's own loader in one process.
    """

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self._order = SeedableRandomSampler(range(rows), data_seed=seed)
        self._batches = BatchSampler(self._order, batch_size, drop_last=False)

    def __len__(self) -> int:
        return -(-len(self._batches) // processes.count())

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(self._batches)
        missing = len(self) * processes.count() - len(batches)
        yield from processes.share([*batches, *([[]] * missing)])

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for this pass."""
        self._order.set_epoch(epoch)


class OwnLoader(DataLoader[dict[str, Any]]):
    """A data loader over `OwnBatches` that shuffles anew for each pass, as the trainer asks it to."""

    def __init__(self, rows: Dataset[dict[str, Any]], batches: OwnBatches, collate: Callable[[Any], Any]) -> None:
        super().__init__(rows, batch_sampler=batches, collate_fn=collate)
        self._batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for this pass."""
        self._batches.set_epoch(epoch)
