"""The gateway's metrics, on a port of their own, with closed sets of labels.

What a gateway did itself is counted: sum it over gateways. What stands in Redis is the same from every gateway: take
the largest.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from redis.asyncio import Redis
from redis.exceptions import RedisError

from video_jobs.census import Census, take_census
from video_jobs.limits import ServiceClass
from video_jobs.logs import CountedWarnings

ROUTES = {"create_video", "read_result", "read_file", "list_videos", "cancel_video", "is_alive", "is_ready"}
CENSUS_EVERY_SECONDS = 5.0

logger = logging.getLogger(__name__)


class GatewayMetrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._answers = Counter(
            "cogvideox_http_answers_total", "Answers by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "cogvideox_http_seconds", "Seconds from request to answer.", ["route"], registry=registry
        )
        self._accepted = Counter("cogvideox_accepted_total", "Jobs accepted, by class.", ["class"], registry=registry)
        self._refused = Counter(
            "cogvideox_refused_total", "Requests refused, by business error code.", ["code"], registry=registry
        )
        self._plans = Counter(
            "cogvideox_plan_jobs_total", "Jobs accepted, by the tenant's plan.", ["plan"], registry=registry
        )
        self._ready = Gauge(
            "cogvideox_gateway_ready", "1 while jobs are taken, as the last probe found.", registry=registry
        )
        self._reaped = Counter(
            "cogvideox_reaped_total",
            "Jobs handed on or ended because a lease or a deadline ran out.",
            registry=registry,
        )
        self._stand = _Stand(registry)
        self.warnings = CountedWarnings(registry)

    def note(self, route: str, status: int, seconds: float) -> None:
        """What no route of ours answered is counted as `other`: callers must not make label values."""
        name = route if route in ROUTES else "other"
        self._answers.labels(name, str(status)).inc()
        self._seconds.labels(name).observe(seconds)

    def accepted(self, kind: int, plan: str) -> None:
        self._accepted.labels(ServiceClass(kind).name.lower()).inc()
        self._plans.labels(plan).inc()

    def is_ready(self, ready: bool) -> None:
        self._ready.set(ready)

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def reaped(self, job_ids: list[str]) -> None:
        self._reaped.inc(len(job_ids))

    async def keep_census(self, redis: Redis, routes: Iterable[str]) -> None:
        """Count what stands in Redis until cancelled."""
        known = tuple(routes)
        while True:
            try:
                self._stand.show(await take_census(redis, known))
            except (RedisError, OSError) as exc:
                logger.warning("census waits for redis", extra={"dependency": "redis", "error": type(exc).__name__})
            await asyncio.sleep(CENSUS_EVERY_SECONDS)

    def serve(self, port: int, host: str) -> None:
        start_http_server(port, host, registry=self.registry)


class _Stand:
    """The census as gauges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"cogvideox_{name}", what, labels, registry=registry)

        self._told: dict[Gauge, set[tuple[str, ...]]] = {}
        self._queued = gauge("jobs_queued", "Jobs waiting for a worker.", "route", "class")
        self._oldest = gauge("queue_oldest_seconds", "How long the first of them has waited.", "route", "class")
        self._running = gauge("jobs_running", "Jobs that workers hold.", "route")
        self._workers = gauge("workers_ready", "Workers that take jobs.", "route")
        self._numbers = {
            "delayed": gauge("jobs_delayed", "Jobs that wait for their next attempt."),
            "dead": gauge("jobs_dead", "Jobs that failed too often and wait for an operator."),
            "paused": gauge("routes_paused", "Routes that give no job out."),
            "overdue": gauge("leases_overdue", "Leases that ended and that nobody has handed on."),
            "audit_backlog": gauge("audit_backlog", "Audit records not yet sealed and exported."),
        }

    def show(self, census: Census) -> None:
        self._fill(self._queued, {(route, kind.name.lower()): count for (route, kind), count in census.queued.items()})
        self._fill(self._oldest, {(route, kind.name.lower()): age for (route, kind), age in census.oldest_s.items()})
        self._fill(self._running, {(route,): count for route, count in census.running.items()})
        self._fill(self._workers, {(route,): count for route, count in census.workers.items()})
        for name, gauge in self._numbers.items():
            gauge.set(getattr(census, name))

    def _fill(self, gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
        """A route that nobody tells of any more must not stand for ever as it stood last."""
        for labels in self._told.get(gauge, set()) - values.keys():
            gauge.remove(*labels)
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        self._told[gauge] = set(values)
