"""The worker's metrics, with closed sets of labels. Times reach to an hour: a long clip on a small card takes that."""

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from video_jobs.job import JobRecord, Stage
from video_jobs.limits import ServiceClass
from video_jobs.logs import CountedWarnings

BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)


class WorkerMetrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def histogram(name: str, what: str, label: str) -> Histogram:
            return Histogram(f"cogvideox_worker_{name}", what, [label], buckets=BUCKETS, registry=registry)

        self._ends = Counter(
            "cogvideox_worker_attempts",
            "Attempts by how they ended; what is no end is why it was retried.",
            ["how"],
            registry=registry,
        )
        self._stages = histogram("stage_seconds", "Seconds of each stage of a video.", "stage")
        self._waits = histogram("queue_wait_seconds", "Seconds from accept to the first claim.", "class")
        self._jobs = histogram("job_seconds", "Seconds from accept to the end of a job.", "class")
        self._resumes = Counter(
            "cogvideox_worker_resumes", "Attempts that went on from a checkpoint.", registry=registry
        )
        self._plan_seconds = Counter(
            "cogvideox_plan_device_seconds", "Device seconds of ended jobs, by plan.", ["plan"], registry=registry
        )
        self._plan_videos = Counter("cogvideox_plan_videos", "Videos made, by plan.", ["plan"], registry=registry)
        self._pace = Gauge(
            "cogvideox_worker_steps_per_second", "Denoising steps of the last render.", registry=registry
        )
        self._memory = Gauge(
            "cogvideox_worker_device_memory_bytes", "The most device memory of the last render.", registry=registry
        )
        self._reaped = Counter(
            "cogvideox_reaped", "Jobs handed on or ended because a lease or a deadline ran out.", registry=registry
        )
        self.warnings = CountedWarnings(registry)

    def claimed(self, record: JobRecord) -> None:
        if len(record.attempts) == 1:
            self._waits.labels(_class(record)).observe(max(0.0, time.time() - record.accepted_ms / 1000))
        if record.checkpoint is not None:
            self._resumes.inc()

    def rendered(self, steps: int, stage_seconds: Mapping[str, float], memory_bytes: int) -> None:
        if seconds := stage_seconds.get(Stage.DENOISE.value):
            self._pace.set(steps / seconds)
        self._memory.set(memory_bytes)

    def ended(self, how: str, stage_seconds: Mapping[str, float], record: JobRecord | None = None) -> None:
        """`record` only where the job ended with the attempt."""
        self._ends.labels(how).inc()
        for stage, seconds in stage_seconds.items():
            self._stages.labels(stage).observe(seconds)
        if record is not None:
            self._jobs.labels(_class(record)).observe(max(0.0, time.time() - record.accepted_ms / 1000))

    def used(self, plan: str, device_s: float, is_video: bool) -> None:
        self._plan_seconds.labels(plan).inc(device_s)
        if is_video:
            self._plan_videos.labels(plan).inc()

    def reaped(self, job_ids: list[str]) -> None:
        self._reaped.inc(len(job_ids))


def _class(record: JobRecord) -> str:
    return ServiceClass(record.job.priority).name.lower()
