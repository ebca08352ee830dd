"""Several processes at one command, as `accelerate launch` starts them: which one this is, and what its share is.

Every process runs the same command on the same input. Loops over batches take a process's share and gather what all
have found, so that afterwards each knows everything; only the main one prints and writes. Without a launch there is one
process, the main one, and neither accelerate nor torch.distributed is imported.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from alignvec.errors import ProcessError

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a process waits for the others, who may have longer batches; one that ends is noticed at once."""


def count() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE") or 1) if "RANK" in os.environ else 1


def index() -> int:
    """Number of this process, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    return index() == 0


def leave() -> None:
    """Go on alone: from here on this process is the only one, and libraries see no launch either."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)


def own_device() -> str:
    """Torch device of this process: its own GPU where there are any, else the CPU."""
    if count() > 1:
        return str(_joined().device)
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def share(items: Sequence[T]) -> Sequence[T]:
    """What this process does of some items: every n-th, so that neighbours in a sorted list are spread."""
    return items[index() :: count()]


def gather(value: T) -> list[T]:
    """The value of every process, in their order, for all of them.

    Raises:
        ProcessError: if another process has ended.
    """
    if count() == 1:
        return [value]
    _joined()
    from accelerate.utils import gather_object  # type: ignore[import-untyped]

    with others_alive():
        found: list[T] = gather_object([value])
    return found


def on_main(function: Callable[[], T]) -> T:
    """Call a function in the main process alone; all get its result.

    Raises:
        ProcessError: if the main process has ended.
    """
    if count() == 1:
        return function()
    _joined()
    from accelerate.utils import broadcast_object_list

    found: list[Any] = [function() if is_main() else None]
    with others_alive():
        broadcast_object_list(found)
    result: T = found[0]
    return result


@contextmanager
def others_alive() -> Iterator[None]:
    """Tell a broken connection in the block as what it means.

    Raises:
        ProcessError: if another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        from torch.distributed import DistError

        if not (isinstance(error, DistError) or "gloo/transport" in str(error)):
            raise
        raise ProcessError(
            f"another of the {count()} processes has ended; start the same command again, it goes on where it was"
        ) from error


def first_to_fail() -> bool:
    """Whether no process has asked this before: the one that fails first tells the error, and the others follow."""
    if count() == 1:
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not (address and port):
        return True
    try:  # the launcher keeps this store, whatever becomes of the processes
        store = TCPStore(address, int(port), is_master=False, timeout=timedelta(seconds=5))
        return int(store.add("alignvec/failed", 1)) == 1
    except RuntimeError:  # no launcher of that kind: better told twice than not at all
        return True


def _joined() -> Any:
    """Who runs where, as accelerate has it; the first call joins the group of processes."""
    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]

    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=PATIENCE)
