"""From latents to frames on disk."""

from pathlib import Path

import numpy as np
import torch

from gpu_worker.engine.geometry import Geometry
from gpu_worker.engine.model import Model


@torch.no_grad()
def decode(model: Model, latents: torch.Tensor, shape: Geometry) -> torch.Tensor:
    """Frames in [0, 1] as (frames, channels, height, width). Padding is dropped before it could reach the pixels."""
    kept = latents[:, shape.padding :].permute(0, 2, 1, 3, 4)
    with model.on_device(model.vae) as vae:
        video = vae.decode(1 / vae.config.scaling_factor * kept).sample
    frames: torch.Tensor = (video[0].permute(1, 0, 2, 3) / 2 + 0.5).clamp(0, 1)
    return frames


def write_frames(frames: torch.Tensor, path: Path) -> None:
    """As uint8 RGB (frames, height, width, 3), one frame at a time: the float copy of a long clip is large."""
    count, channels, height, width = frames.shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, height, width, channels)}
    # Plain writes: on a full disk a memory map kills the process with SIGBUS instead of raising OSError.
    with path.open("wb") as target:
        np.lib.format.write_array_header_1_0(target, header)
        for frame in frames:
            pixels = (frame.float() * 255).round().to(torch.uint8).permute(1, 2, 0)
            target.write(pixels.cpu().numpy().tobytes())
