"""What /metrics tells, in Prometheus' text format.

Names begin with `runtime_`; seconds and bytes are base units.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from runtimes.batches import COLLECTORS
from runtimes.server.memory import peak_memory

_FIRST_TOKEN_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The meters of one server."""

    def __init__(self) -> None:
        # A second series per counter that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        for collector in COLLECTORS:
            self.registry.register(collector)
        self.ready = Gauge("runtime_ready", "1 while requests are accepted", registry=self.registry)
        self.waiting = Gauge("runtime_queue_length", "Sequences waiting for a place", registry=self.registry)
        self.running = Gauge("runtime_running", "Sequences being computed", registry=self.registry)
        self.predicted_bytes = Gauge(
            "runtime_memory_predicted_bytes",
            "Memory that the model was predicted to take",
            registry=self.registry,
        )
        self.peak_bytes = Gauge(
            "runtime_memory_peak_bytes", "Most memory that was ever in use", registry=self.registry
        )
        self.requests = Counter(
            "runtime_requests", "Answered requests", ["route", "status"], registry=self.registry
        )
        self.errors = Counter(
            "runtime_errors", "Requests that ended in an error, by its code", ["code"], registry=self.registry
        )
        self.hang_ups = Counter(
            "runtime_hang_ups", "Requests whose client left before the end", registry=self.registry
        )
        self.prompt_tokens = Counter("runtime_prompt_tokens", "Tokens read", registry=self.registry)
        self.completion_tokens = Counter(
            "runtime_completion_tokens", "Tokens written", registry=self.registry
        )
        self.audio_seconds = Counter(
            "runtime_audio_seconds", "Seconds of audio that were heard", registry=self.registry
        )
        self.request_seconds = Histogram(
            "runtime_request_seconds",
            "From the arrival of a request to the end of its answer",
            ["route"],
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "runtime_queue_seconds",
            "Between the admission of a sequence and its place",
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.first_token_seconds = Histogram(
            "runtime_time_to_first_token_seconds",
            "From the arrival of a request to its first token",
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.inter_token_seconds = Histogram(
            "runtime_inter_token_seconds",
            "Between two tokens of one answer",
            buckets=_TOKEN_BUCKETS,
            registry=self.registry,
        )

    def watch(
        self,
        *,
        ready: Callable[[], bool],
        waiting: Callable[[], int],
        running: Callable[[], int],
        predicted_bytes: Callable[[], int],
    ) -> None:
        """Reads these when they are asked for."""
        self.predicted_bytes.set_function(predicted_bytes)
        self.peak_bytes.set_function(peak_memory)
        self.ready.set_function(lambda: float(ready()))
        self.waiting.set_function(waiting)
        self.running.set_function(running)

    def render(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self.registry)
