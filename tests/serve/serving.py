"""Serves a scripted engine on a free port in a thread."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from alignvec.serve.app import create_app
from alignvec.serve.metrics import Metrics
from alignvec.serve.policy.audit import AuditLog
from alignvec.serve.policy.limits import RateLimits
from alignvec.serve.policy.policy import Key, Policy, open_policy
from alignvec.serve.service import Options, Service
from tests.serve.scripted_engine import ScriptedEngine


def make_service(engine: Any, policy: Policy | None = None, audit: AuditLog | None = None, **options: Any) -> Service:
    return Service(
        engine,
        policy or open_policy(),
        RateLimits(),
        audit or AuditLog(None),
        Metrics(engine.load),
        Options(**{"model": "demo", "page": False} | options),
    )


def policy_of(**keys: dict[str, Any]) -> Policy:
    """A policy whose keys are their names."""
    from alignvec.serve.policy.keys import key_hash

    return Policy("test", [Key(name=name, hash=key_hash(name), **rules) for name, rules in keys.items()], None)


@contextmanager
def served(service: Service) -> Iterator[str]:
    """The server's address."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)
        bound.close()


def eventually(true: Any, what: str, within: float = 20) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


__all__: Sequence[str] = ["ScriptedEngine", "eventually", "make_service", "policy_of", "served"]
