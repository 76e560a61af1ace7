"""One trace from the caller's request over the wait in the queue to every stage of the render.

OpenTelemetry is an extra. Without it, or with `COGVIDEOX_TRACING` off, nothing is traced and nothing is paid. Where
traces go is OpenTelemetry's own business: `OTEL_EXPORTER_OTLP_ENDPOINT` and its kin.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from video_jobs.job import Job, JobRecord

NANOSECONDS = 10**9


class ExtraMissing(Exception):
    """Traces need OpenTelemetry: pip install 'cogvideox-server[tracing]', or turn COGVIDEOX_TRACING off."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Traces(Protocol):
    @contextlib.contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[None]:
        """A caller's request; goes on with the trace that its `traceparent` names."""

    def parent(self) -> str:
        """The `traceparent` of what happens now, for the job's record; empty without a trace."""

    def attempt(self, record: JobRecord, claimed_s: float, how: str, stage_seconds: Mapping[str, float]) -> None:
        """A worker's attempt that ended now: the wait before it, the attempt, and its stages one after the other."""

    def close(self) -> None:
        """Send what is left."""


class NoTraces:
    @contextlib.contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[None]:
        yield

    def parent(self) -> str:
        return ""

    def attempt(self, record: JobRecord, claimed_s: float, how: str, stage_seconds: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class OpenTelemetry:
    def __init__(self, service: str, exporter: Any = None) -> None:
        try:
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as exc:
            raise ExtraMissing from exc
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _otlp()))
        self._tracer = self._provider.get_tracer("cogvideox-server")
        self._words = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[None]:
        came_with = self._words.extract(dict(headers))
        with self._tracer.start_as_current_span(name, context=came_with):
            yield

    def parent(self) -> str:
        carrier: dict[str, str] = {}
        self._words.inject(carrier)
        return carrier.get("traceparent", "")

    def attempt(self, record: JobRecord, claimed_s: float, how: str, stage_seconds: Mapping[str, float]) -> None:
        from opentelemetry import trace

        asked = self._words.extract({"traceparent": record.job.trace})
        if len(record.attempts) == 1:
            self._span("queue", asked, record.accepted_ms / 1000, claimed_s, {"class": record.job.priority})
        told = _attributes(record.job) | {"attempt": str(len(record.attempts)), "ended": how}
        run = self._tracer.start_span("attempt", asked, start_time=_ns(claimed_s), attributes=told)
        inside, at = trace.set_span_in_context(run, asked), claimed_s
        # Parts of a stage, as `finish.interpolate`, lie within it.
        for stage, seconds in ((name, spent) for name, spent in stage_seconds.items() if "." not in name):
            self._span(stage, inside, at, at + seconds, {})
            at += seconds
        run.end(_ns(time.time()))

    def close(self) -> None:
        self._provider.shutdown()

    def _span(self, name: str, context: Any, start_s: float, end_s: float, told: Mapping[str, Any]) -> None:
        self._tracer.start_span(name, context, start_time=_ns(start_s), attributes=dict(told)).end(_ns(end_s))


def open_traces(is_on: bool, service: str) -> Traces:
    return OpenTelemetry(service) if is_on else NoTraces()


def _otlp() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _attributes(job: Job) -> dict[str, str]:
    return {"job_id": job.id, "request_id": job.request_id, "model": job.spec.model, "route": job.route}


def _ns(seconds: float) -> int:
    return int(seconds * NANOSECONDS)
