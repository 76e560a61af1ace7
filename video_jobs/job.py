"""What a job is: the request as the engine understands it, the plan to render it, and where it stands."""

import hashlib
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from video_jobs.policy.terms import JobPolicy

JOB_VERSION = 1
KNOWN_VERSIONS = (1,)
"""What a worker of this release can render: a newer job waits for a newer worker, an older one is never left behind."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Stage(StrEnum):
    """The stages of a render, in order; `cost.stage_seconds` predicts each."""

    PREPARE = "prepare"
    TEXT = "text"
    DENOISE = "denoise"
    DECODE = "decode"
    FINISH = "finish"
    UPLOAD = "upload"


class Quality(StrEnum):
    SPEED = "speed"
    QUALITY = "quality"


class ImageRef(Frozen):
    """A cleaned first frame in the store."""

    key: str
    sha256: str
    width: int
    height: int


class VideoSpec(Frozen):
    """What the caller asked for, defaults filled in. The seed is fixed, so the record alone reproduces the video."""

    model: str
    prompt: str = ""
    image: ImageRef | None = None
    quality: Quality = Quality.SPEED
    width: int
    height: int
    fps: int
    duration_s: int
    with_audio: bool = False
    watermark: bool = False
    seed: int


class RenderPlan(Frozen):
    """How the spec is rendered: the checkpoint's native clip, then what finishing makes of it."""

    checkpoint: str
    preset: str
    width: int
    height: int
    num_frames: int
    native_fps: int
    steps: int
    scheduler: str
    guidance: float
    max_text_tokens: int
    # Presets of the catalogue; the defaults are exact, as all plans were before these fields.
    cache_threshold: float = 0.0
    cache_max_skips: int = 3
    precision: str = "native"
    approximate_attention: bool = False
    adapter: str = ""
    """The model code whose adapter this is; none when empty."""

    adapter_sha256: str = ""
    adapter_scale: float = 1.0
    out_width: int
    out_height: int
    out_fps: int
    out_frames: int

    def digest(self) -> str:
        """A short name of everything that decides the pixels besides weights, prompt, image and seed."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def kind(self) -> str:
        """Plans of one kind are mispredicted alike: measured times correct them together."""
        return f"{self.checkpoint}/{self.preset}"


class VideoFile(Frozen):
    key: str
    cover_key: str
    size_bytes: int
    sha256: str
    cover_sha256: str = ""


class Rendered(Frozen):
    """What really happened: recorded when the job ends."""

    prompt: str = ""
    prompt_by: str = "caller"
    stage_seconds: dict[str, float] = {}
    stages: dict[str, str] = {}
    weights_revision: str = ""
    weights_checksum: str = ""
    preset_digest: str = ""
    engine_version: str = ""


class Job(Frozen):
    """The part of the record that never changes after accept."""

    id: str
    version: int = JOB_VERSION
    request_id: str
    body_hash: str
    tenant: str
    key_id: str
    user_id: str | None = None
    spec: VideoSpec
    plan: RenderPlan
    route: str
    cost_s: float
    priority: int = 1
    policy: JobPolicy = JobPolicy()
    trace: str = ""
    """The `traceparent` of the request that made it; empty without tracing."""

    start_within_s: float = 0
    """From accept to the first claim; 0 is for ever."""
    run_limit_s: float = 0
    """From the first claim to the end, whatever lies between; 0 is for ever."""


class Attempt(Frozen):
    """One line of the attempt history: who had the job and how that ended."""

    token: str
    worker: str
    started_ms: int
    ended_ms: int | None = None
    ended_by: str | None = None
    detail: str = ""


class JobRecord(Frozen):
    """The whole record as read from Redis: the only truth about a job."""

    job: Job
    state: JobState
    token: str | None = None
    cancel_asked: bool = False
    stage: Stage | None = None
    progress: float = 0.0
    accepted_ms: int
    started_ms: int | None = None
    finished_ms: int | None = None
    deleted_ms: int | None = None
    engine_deaths: int = 0
    lost_leases: int = 0
    checkpoint: str | None = None
    checkpoint_step: int | None = None
    rendered: Rendered = Rendered()
    video: VideoFile | None = None
    error_code: str | None = None
    error_message: str | None = None
    attempts: tuple[Attempt, ...] = ()
    issued_to: frozenset[str] = frozenset()
    """The keys that were given the result's links."""

    @property
    def is_deleted(self) -> bool:
        return self.deleted_ms is not None


class Claim(NamedTuple):
    """A worker's hold on a job. `token` is compared whole by every later script."""

    job_id: str
    token: str


class Outcome(Frozen):
    """How a claimed job ended: the argument of `finish`."""

    state: JobState
    rendered: Rendered = Rendered()
    video: VideoFile | None = None
    error_code: str | None = None
    error_message: str | None = None
