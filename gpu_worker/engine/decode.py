"""From latents to frames on disk."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_worker.engine.crew import lead_decode
from gpu_worker.engine.geometry import Geometry
from gpu_worker.engine.memory import is_tiled
from gpu_worker.engine.model import Model
from gpu_worker.engine.ranks import Ranks


@torch.no_grad()
def decode(
    model: Model,
    latents: torch.Tensor,
    shape: Geometry,
    on_chunk: Callable[[int, int], None],
    ranks: Ranks | None = None,
) -> torch.Tensor:
    """Frames in [0, 1] as (frames, channels, height, width). Padding is dropped before it could reach the pixels.

    `on_chunk` hears how many chunks are done of how many, and may raise to stop.
    """
    kept = latents[:, shape.padding :].permute(0, 2, 1, 3, 4)
    tiled = is_tiled(model.memory, shape.width, shape.height)
    with model.at_work(model.vae, model.memory.vae) as vae, _watched(vae, kept.shape[2], on_chunk), _tiling(vae, tiled):
        scaled = 1 / vae.config.scaling_factor * kept
        # Only tiles can be shared out: whole frames are normed as a whole.
        video = lead_decode(vae, scaled, ranks) if ranks and _has_tiles(vae, scaled) else vae.decode(scaled).sample
    frames: torch.Tensor = (video[0].permute(1, 0, 2, 3) / 2 + 0.5).clamp(0, 1)
    return frames


def _has_tiles(vae: Any, latents: torch.Tensor) -> bool:
    height, width = latents.shape[3:]
    return bool(vae.use_tiling and (height > vae.tile_latent_min_height or width > vae.tile_latent_min_width))


@contextmanager
def _tiling(vae: Any, is_tiled: bool) -> Iterator[None]:
    """Only for decoding: a first frame is encoded whole."""
    vae.use_tiling = is_tiled
    try:
        yield
    finally:
        vae.use_tiling = False


@contextmanager
def _watched(vae: Any, latent_frames: int, on_chunk: Callable[[int, int], None]) -> Iterator[None]:
    """The VAE decodes a few latent frames at a time; with tiling it goes through them once for each tile."""
    total = max(1, latent_frames // vae.num_latent_frames_batch_size)
    chunks = itertools.count()
    hook = vae.decoder.register_forward_pre_hook(lambda *_: on_chunk(min(next(chunks), total), total))
    try:
        yield
    finally:
        hook.remove()


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
