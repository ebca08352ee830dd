"""What the benchmarks of the server share: a server in a process of its own, and requests to it."""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from alignvec.data.load import load_rows, shipped_file
from alignvec.serve.load.client import ask, open_client
from alignvec.serve.load.offer import offer
from alignvec.serve.load.outcome import Outcome, Probe

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
DOMAINS = ("medical", "legal", "financial")


@dataclass(frozen=True)
class Server:
    """A running server: base URL, and its process (0 if somebody else started it)."""

    url: str
    pid: int


@contextmanager
def serving(url: str | None, *options: str, patience: float = 300.0) -> Iterator[Server]:
    """The server at `url`, or one of our own: the demo model and `--vectors` or other options."""
    if url:
        yield Server(url.rstrip("/"), 0)
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "alignvec.cli.app", "serve", "--model", "demo", "--port", str(port), *options]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until = time.monotonic() + patience
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise SystemExit(f"the server did not start: {log.read()[-2000:]}")
                time.sleep(0.2)
            yield Server(f"http://127.0.0.1:{port}/v1", process.pid)
            if process.poll() is not None:
                log.seek(0)
                raise SystemExit(f"the server died with code {process.returncode}: {log.read()[-2000:]}")
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def burst(url: str, probes: Sequence[Probe], *, key: str | None = None) -> list[Outcome]:
    """All requests at once."""

    async def run() -> list[Outcome]:
        async with open_client(url, key=key) as client:
            return await offer(client, probes, [0.0] * len(probes), patience=600)

    return asyncio.run(run())


def in_turn(url: str, probes: Sequence[Probe], *, key: str | None = None) -> list[Outcome]:
    """Each request after the one before is answered."""

    async def run() -> list[Outcome]:
        async with open_client(url, key=key) as client:
            return [await ask(client, probe, due=time.perf_counter(), patience=600) for probe in probes]

    return asyncio.run(run())


def answered(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """The outcomes, if every request was answered; a benchmark is no use otherwise."""
    for one in outcomes:
        if one.kind != "answered":
            raise SystemExit(f"a request was {one.kind} (status {one.status}): {one.error}")
    return outcomes


def queries(count: int) -> list[str]:
    """Validation queries of the shipped domains, in turn."""
    rows = [load_rows(shipped_file(domain), split="validation") for domain in DOMAINS]
    return [row.query for group in zip(*rows, strict=False) for row in group][:count]


def _ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
