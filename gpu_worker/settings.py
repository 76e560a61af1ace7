"""The worker's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from video_jobs.settings import LogSettings, ModelSettings, PolicySettings, PromptSettings, QueueSettings, StoreSettings
from video_jobs.store import RETRY_SECONDS


class WorkerSettings(QueueSettings, StoreSettings, ModelSettings, PromptSettings, PolicySettings, LogSettings):
    model: str = "tiny"
    """What the engine loads: `tiny`, a folder, or a hub id, in diffusers layout."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the engine renders."""

    memory: Literal["auto", "80", "48", "24", "16"] = "auto"
    """What stays on the GPU, for a card of so many GB; `auto` looks at what is free."""

    text_encoder: Literal["auto", "device", "visit", "cpu", "int8"] = "auto"
    """Where the text encoder works, if not where `memory` has it; `int8` halves its memory and needs torchao."""

    attention: Literal["auto", "sdpa", "cudnn", "flash", "efficient", "flex", "flash3", "sage", "math"] = "auto"
    """The attention kernel; `auto` times those that work here and takes the fastest."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the transformer's blocks; `auto` does on a GPU. What was compiled is kept in the state folder."""

    gpus_per_job: int = Field(default=1, ge=1)
    """So many GPUs render one clip together; each worker needs so many."""

    scratch: Path | None = None
    """Where frames pass between the children; `scratch` in the state folder if unset."""

    scratch_min_free_mb: int = Field(default=1024, ge=0)
    """With less free than this the worker takes no jobs and is not ready."""

    worker_port: int = Field(default=0, ge=0, le=65535)
    """The port of `/healthz`, `/readyz` and `/metrics`; 0 for none."""

    grace_seconds: float = Field(default=25, gt=0)
    """How long a worker that was told to stop may take to hand its jobs back."""

    checkpoint_seconds: float = Field(default=30, gt=0)
    """How often a half-denoised clip is saved to the store, for the next attempt to go on from."""

    retry_seconds: float = Field(default=RETRY_SECONDS, ge=0)
    """The pause before a failed attempt is repeated, doubled for each one more."""

    hang_factor: float = Field(default=10, gt=1)
    """A child that tells nothing new for this many times what its stage, or once measured its step, should take
    is ended."""

    hang_floor_seconds: float = Field(default=120, gt=0)
    """No child is ended for a shorter silence than this."""

    @property
    def scratch_folder(self) -> Path:
        return self.scratch or self.state / "scratch"
