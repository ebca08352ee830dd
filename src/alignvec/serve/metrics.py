"""What the server counts, for Prometheus; label values come from short fixed lists only."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from alignvec.serve.engine.request import Load

FIRST_TOKEN = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
PER_TOKEN = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class Metrics:
    """Counters of one server, in a registry of their own.

    Args:
        load: how busy the engine is, read when the metrics are.
    """

    def __init__(self, load: Callable[[], Load]) -> None:
        self.registry = CollectorRegistry()
        self.http = Counter(
            "alignvec_http_requests",
            "HTTP requests by endpoint and status",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.replies = Counter(
            "alignvec_replies",
            "Requests for a reply by endpoint and how they ended",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "alignvec_tokens", "Tokens read (in) and generated (out)", ["direction"], registry=self.registry
        )
        self.clamped = Counter(
            "alignvec_clamped_knobs", "Knobs cut to the usable range", ["vector"], registry=self.registry
        )
        self.first_token = Histogram(
            "alignvec_first_token_seconds",
            "Time from a request to its first token",
            buckets=FIRST_TOKEN,
            registry=self.registry,
        )
        self.per_token = Histogram(
            "alignvec_token_seconds",
            "Mean time per token after the first, by request",
            buckets=PER_TOKEN,
            registry=self.registry,
        )
        running = Gauge("alignvec_running_requests", "Requests with a row in the batch", registry=self.registry)
        running.set_function(lambda: load().running)
        waiting = Gauge("alignvec_waiting_requests", "Requests in the queue", registry=self.registry)
        waiting.set_function(lambda: load().waiting)
        free = Gauge("alignvec_cache_free_ratio", "Free share of the cache of keys and values", registry=self.registry)
        free.set_function(lambda: load().free)

    def text(self) -> bytes:
        """Everything counted so far, in Prometheus's text format."""
        return generate_latest(self.registry)
