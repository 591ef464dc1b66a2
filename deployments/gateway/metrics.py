"""What a gateway process tells Prometheus. One registry per application, so that tests do not share numbers.

No label names a customer or a deployment: their counts are in `RequestCount`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Seconds. From a short answer of a small model to the longest that a caller waits for.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "gateway_calls", "Calls answered, by status (499: hung up)", ["status"], registry=self.registry
        )
        self.in_progress = Gauge(
            "gateway_calls_in_progress", "Calls that are being answered", registry=self.registry
        )
        self.first_byte = Histogram(
            "gateway_first_byte_seconds",
            "From the call to the first byte of a replica's answer",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "gateway_call_seconds", "From the call to its end", buckets=_BUCKETS, registry=self.registry
        )
        self.retries = Counter(
            "gateway_retries", "Calls sent again to a replica, by reason", ["reason"], registry=self.registry
        )
        self.broken_streams = Counter(
            "gateway_broken_streams", "Answers that a replica began and did not end", registry=self.registry
        )
