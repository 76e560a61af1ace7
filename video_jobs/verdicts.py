"""What the store answers to each move of a job."""

from enum import StrEnum

from video_jobs.job import Frozen
from video_jobs.limits import LimitHit, Rate


class AuditFull(Exception):
    """The audit's backlog is at its cap: no job is accepted that could not be audited."""


class Verdict(StrEnum):
    NEW = "new"
    REPLAY = "replay"
    CONFLICT = "conflict"
    PENDING = "pending"
    LIMITED = "limited"


class Admission(Frozen):
    verdict: Verdict
    job_id: str = ""
    limit: LimitHit | None = None
    rate: Rate | None = None


class Hold(StrEnum):
    """Whether a claim still holds its job."""

    HELD = "held"
    LOST = "lost"
    CANCEL = "cancel"


class Charge(StrEnum):
    """What an attempt that ended early costs the job."""

    FREE = "free"
    ATTEMPT = "attempt"
    ENGINE_DEATH = "engine_death"


class Requeue(StrEnum):
    QUEUED = "queued"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class Retry(StrEnum):
    QUEUED = "queued"
    NOT_FAILED = "not failed"
    UNKNOWN = "unknown"


class CancelVerdict(StrEnum):
    CANCELLED = "cancelled"
    ASKED = "asked"
    FINAL = "final"
    UNKNOWN = "unknown"
