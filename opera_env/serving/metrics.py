"""What the scoring server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from opera_env.serving.service import ScoringService

_PLANS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class ServerMetrics:
    """Counters and gauges of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        options = {"namespace": "opera_env", "registry": self.registry}
        self._requests = Counter("requests", "Requests by path and status.", ["path", "status"], **options)
        self._seconds = Histogram(
            "request_seconds", "Seconds until the answer.", ["path"], buckets=_SECONDS, **options
        )
        self._batch_plans = Histogram(
            "batch_plans", "Plans in the batches that were scored.", buckets=_PLANS, **options
        )
        self._batch_seconds = Histogram(
            "batch_seconds", "Seconds in which batches were scored.", buckets=_SECONDS, **options
        )
        self._waiting = Gauge("waiting_plans", "Plans that wait for scores.", **options)
        self._sessions = Gauge("open_sessions", "Open sessions.", **options)
        self._images = Counter("images_scored", "Distinct results scored.", **options)
        self._tools = Counter("tools_run", "Tool applications.", **options)
        self._counted = {self._images: 0, self._tools: 0}

    def add_request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def add_batch(self, plans: int, seconds: float) -> None:
        """Counts a batch that was scored."""
        self._batch_plans.observe(plans)
        self._batch_seconds.observe(seconds)

    def text(self, service: ScoringService) -> bytes:
        """Returns all values in the text format of Prometheus."""
        self._waiting.set(service.gatherer.waiting)
        self._sessions.set(len(service.sessions))
        for counter, total in (
            (self._images, service.scorer.images_scored),
            (self._tools, service.scorer.tools_run),
        ):
            counter.inc(total - self._counted[counter])
            self._counted[counter] = total
        return generate_latest(self.registry)
