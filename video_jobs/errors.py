"""The tree of job errors. The docstring is the message; the class carries the code.

JobError
├── PromptNotUnderstood      final
├── ImageUnreadable          final
├── JobCancelled             final
├── ContentRefused           final
├── ModerationUnavailable    retryable
├── PoisonJob                final
├── StartedTooLate           final
├── RanTooLong               final
├── EngineFault              retryable
│   ├── EngineDied           counts towards poison
│   │   ├── EngineHung
│   │   └── DeviceFault
│   ├── OutOfGpuMemory
│   └── ModelUnavailable
├── ChildNotStarted          retryable, and no fault of the job
├── RewriterUnavailable      retryable
├── EncodeFailed             retryable
├── UploadFailed             retryable
├── WorkerDiskFull           retryable
└── InternalFault            retryable
"""

from typing import ClassVar


class JobError(Exception):
    """The video could not be made."""

    code: ClassVar[str] = "job_error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "") -> None:
        self.message = " ".join((type(self).__doc__ or "").split())
        self.detail = detail
        super().__init__(f"{self.message} {detail}".strip())


class PromptNotUnderstood(JobError):
    """Most of the prompt is unknown to the model's vocabulary, and no rewriter is configured."""

    code = "prompt_not_understood"


class ImageUnreadable(JobError):
    """The first frame could not be read from the store."""

    code = "image_unreadable"


class JobCancelled(JobError):
    """The job was cancelled by its owner."""

    code = "cancelled"


class ContentRefused(JobError):
    """The content is not allowed by the operator's policy."""

    code = "content_refused"

    def __init__(self, reason: str = "", subject: str = "", level: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.subject, self.level = reason, subject, level


class ModerationUnavailable(JobError):
    """The moderation service did not answer."""

    code = "moderation_unavailable"
    retryable = True


class PoisonJob(JobError):
    """The job ended its engine too often and is not tried again."""

    code = "poison"


class StartedTooLate(JobError):
    """No worker started the job within its limit."""

    code = "start_too_late"


class RanTooLong(JobError):
    """The job was not done within its limit."""

    code = "run_too_long"


class EngineFault(JobError):
    """The engine failed while rendering."""

    code = "engine_fault"
    retryable = True


class EngineDied(EngineFault):
    """The engine process ended while rendering."""

    code = "engine_died"


class EngineHung(EngineDied):
    """The engine made no progress within its limit."""

    code = "engine_hung"


class DeviceFault(EngineDied):
    """The device failed while rendering, and the engine with it."""

    code = "device_fault"


class OutOfGpuMemory(EngineFault):
    """The device cannot hold a video of this size and length."""

    code = "out_of_gpu_memory"


class ModelUnavailable(EngineFault):
    """The model's weights could not be loaded."""

    code = "model_unavailable"


class ChildNotStarted(JobError):
    """A part of the worker did not start."""

    code = "child_not_started"
    retryable = True


class RewriterUnavailable(JobError):
    """The prompt rewriter did not answer."""

    code = "rewriter_unavailable"
    retryable = True


class EncodeFailed(JobError):
    """The frames could not be encoded."""

    code = "encode_failed"
    retryable = True


class UploadFailed(JobError):
    """The video could not be stored."""

    code = "upload_failed"
    retryable = True


class WorkerDiskFull(JobError):
    """The worker's scratch disk is full."""

    code = "worker_disk_full"
    retryable = True


class InternalFault(JobError):
    """The worker failed unexpectedly."""

    code = "internal_fault"
    retryable = True


def _tree(root: type[JobError]) -> dict[str, type[JobError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def error_for(code: str, detail: str = "") -> JobError:
    """The error of a code that crossed a process boundary; an unknown code is an internal fault."""
    return _tree(JobError).get(code, InternalFault)(detail)
