"""Plans small enough for a test."""

import sys
from pathlib import Path
from typing import Any

from video_jobs.job import RenderPlan

WIDTH, HEIGHT, FRAMES, STEPS = 64, 32, 9, 10


def small_plan(**changes: Any) -> RenderPlan:
    values: dict[str, Any] = {
        **{"checkpoint": "tiny-random", "preset": "speed", "width": WIDTH, "height": HEIGHT, "num_frames": FRAMES},
        **{"native_fps": 16, "steps": STEPS, "scheduler": "ddim", "guidance": 6.0, "max_text_tokens": 64},
        **{"out_width": 64, "out_height": 32, "out_fps": 30, "out_frames": 15},
    }
    return RenderPlan.model_validate(values | changes)


def engine_command(models: Path, *more: str) -> list[str]:
    """A real engine on the CPU, as a worker starts one."""
    model = ["--model", "tiny-random", "--checkpoint", "tiny-random", "--models", str(models), "--device", "cpu"]
    return [sys.executable, "-P", "-m", "gpu_worker.engine", *model, *more]
