"""The gateway's metrics, on a port of their own, with closed sets of labels."""

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

ROUTES = {"create_video", "read_result", "read_file", "is_alive", "is_ready"}


class GatewayMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "cogvideox_http_answers_total", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "cogvideox_http_seconds", "Seconds from request to answer.", ["route"], registry=self.registry
        )

    def note(self, route: str, status: int, seconds: float) -> None:
        """What no route of ours answered is counted as `other`: callers must not make label values."""
        name = route if route in ROUTES else "other"
        self._answers.labels(name, str(status)).inc()
        self._seconds.labels(name).observe(seconds)

    def serve(self, port: int, host: str) -> None:
        start_http_server(port, host, registry=self.registry)
