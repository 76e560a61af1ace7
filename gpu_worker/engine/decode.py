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
    target = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, height, width, channels))
    for index, frame in enumerate(frames):
        target[index] = (frame.float() * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    target.flush()
