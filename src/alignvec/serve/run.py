"""The server's process: its start, and an end that lets running replies finish."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from alignvec.serve.app import create_app
from alignvec.serve.service import Service

POLL = 0.1
"""Seconds between two looks at whether all replies are finished; also what the last bytes get to be sent."""
KEEP_ALIVE = 30


def serve(service: Service, bound: socket.socket, *, drain: float, ready: str) -> None:
    """Serve until SIGTERM or SIGINT, then let running replies finish.

    Args:
        service: its engine is started, and stopped at the end.
        bound: see `address.bind`.
        drain: seconds that running replies get.
        ready: what is said on stderr, after the address, when the server listens.
    """
    service.engine.start()
    try:
        config = uvicorn.Config(
            create_app(service),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        host, port = bound.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        _Server(config, service, drain, f"serving http://{shown}:{port} ({ready})").run(sockets=[bound])
    finally:
        service.engine.stop()
        if service.options.routing is not None:
            service.options.routing.close()
        service.audit.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, drain: float, ready: str) -> None:
        super().__init__(config)
        self._service, self._drain, self._ready = service, drain, ready
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._ready, file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves this out then, and prints a traceback instead
            await self.lifespan.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal once more at its end, so that the process would not exit with 0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        yield

    def _on_signal(self, number: int) -> None:
        if self.should_exit:
            os._exit(128 + number)
        self.should_exit = self._service.draining = True
        what = f"finishing what is running, at most {self._drain:g} s" if self._service.active else "bye"
        print(f"stopping: {what}", file=sys.stderr, flush=True)
        self._draining = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain
        while self._service.active and loop.time() < end:
            await asyncio.sleep(POLL)
        await asyncio.sleep(POLL)
        self.force_exit = True  # idle and page connections must not hold back the end

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._on_signal(sig)
