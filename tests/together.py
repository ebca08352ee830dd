"""Several processes on one function, joined over gloo as a launch joins them; forked, so that imports are shared."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any


def together(function: Callable[[], Any], count: int = 2, *, timeout: float = 120) -> list[Any]:
    """What the function returns in each process; fails with the traceback of the first that raises.

    Args:
        function: may be a closure; its result must be picklable.
        count: number of processes.
        timeout: seconds until they are given up.
    """
    context = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    started = [
        context.Process(target=_run, args=(function, i, count, port, pipes[i][1]), daemon=True) for i in range(count)
    ]
    for process, (_, sender) in zip(started, pipes, strict=True):
        process.start()
        sender.close()
    found = []
    try:
        for receiver, _ in pipes:
            assert receiver.poll(timeout), "a process hangs"
            found.append(receiver.recv())
    finally:
        for process in started:
            process.kill()
            process.join()
    failed = [told for worked, told in found if not worked]
    assert not failed, "\n".join(failed)
    return [value for _, value in found]


def _run(function: Callable[[], Any], index: int, count: int, port: int, sender: Any) -> None:
    import torch
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)  # what the parent had
    GradientState._reset_state()
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(index),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(index),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        sender.send((True, function()))
    except BaseException:
        sender.send((False, f"process {index}: {traceback.format_exc()}"))
    sender.close()
    os.read(os.pipe()[0], 1)  # until killed: the others may still need the store that process 0 keeps
