"""One trace from the request to the last stage, read from OpenTelemetry's own exporter."""

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gpu_worker.workshop import Workshop
from tests.integration.worker.shop import attempt
from video_jobs.tracing import NoTraces, OpenTelemetry, open_traces

CALLERS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_every_stage_belongs_to_the_callers_trace(shop: Workshop, queue_job) -> None:
    exporter = InMemorySpanExporter()
    shop.traces = traces = OpenTelemetry("test", exporter)
    with traces.request("create_video", {"traceparent": CALLERS}):
        job = await queue_job(trace=traces.parent())

    await attempt(shop)
    traces.close()

    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() >= {"create_video", "queue", "attempt", "denoise", "finish", "upload"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {CALLERS.split("-")[1]}
    assert spans["queue"].parent.span_id == spans["create_video"].context.span_id
    assert spans["denoise"].parent.span_id == spans["attempt"].context.span_id
    assert spans["attempt"].attributes["job_id"] == job.id
    assert spans["attempt"].attributes["ended"] == "succeeded"
    assert spans["denoise"].end_time <= spans["finish"].start_time


def test_nothing_is_traced_unless_asked() -> None:
    traces = open_traces(False, "test")

    assert isinstance(traces, NoTraces)
    with traces.request("create_video", {"traceparent": CALLERS}):
        assert traces.parent() == ""
