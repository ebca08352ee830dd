"""How every request is written down, however it ends: a line in the audit log, and counts in the metrics."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from secrets import token_hex

from alignvec.errors import AlignvecError
from alignvec.serve.ask import GONE, Ask, Incoming
from alignvec.serve.errors import as_served
from alignvec.serve.metrics import Metrics
from alignvec.serve.policy.audit import AuditLog, Entry, now
from alignvec.serve.setting import Setting
from alignvec.serve.tally import Tally

REQUEST: ContextVar[Incoming | None] = ContextVar("request", default=None)
"""The HTTP request being answered; the page's events are answered outside of any."""


class Ledger:
    """The audit log and the metrics of a server."""

    def __init__(self, audit: AuditLog, metrics: Metrics) -> None:
        self.audit = audit
        self.metrics = metrics

    def entry(self, key: str | None, endpoint: str, model: str = "", alignment: Setting | None = None) -> Entry:
        """What is known of a request before it is answered; `key` is the name of its rules."""
        incoming = REQUEST.get()
        request = incoming.id if incoming else f"req_{token_hex(12)}"
        return Entry(key, request, endpoint, model, alignment=alignment)

    @contextmanager
    def answering(self, entry: Entry) -> Iterator[None]:
        """Count and write down how the block ended."""
        incoming = REQUEST.get()
        start = incoming.arrived if incoming else time.monotonic()
        entry.status, entry.error = 500, "internal_error"
        try:
            yield
            entry.status, entry.error = 200, None
        except (GeneratorExit, asyncio.CancelledError):
            entry.status, entry.error = GONE, "cancelled"
            raise
        except AlignvecError as error:
            entry.status, entry.error = as_served(error).status, as_served(error).code
            raise
        finally:
            entry.time, entry.seconds = now(), round(time.monotonic() - start, 3)
            self.metrics.replies.labels(entry.endpoint, entry.status).inc()
            self.audit.note(entry)

    def measure(self, ask: Ask, tally: Tally) -> None:
        """Count a request's tokens, times and cut knobs."""
        metrics, ended = self.metrics, time.monotonic()
        if tally.first is not None:
            metrics.tokens.labels("in").inc(ask.prompt_tokens)
            metrics.tokens.labels("out").inc(tally.tokens)
            metrics.first_token.observe(tally.first - tally.start)
        if tally.first is not None and tally.tokens > ask.choices:
            metrics.per_token.observe((ended - tally.first) * ask.choices / (tally.tokens - ask.choices))
        for name in ask.setting.clamped:
            metrics.clamped.labels(name).inc()
