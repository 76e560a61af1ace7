"""Shapes of a clip in latent space, padding included, and the positions the transformer sees."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

from gpu_worker.engine.model import Model


class UnrenderableGeometry(ValueError):
    """Only sides of 16 and 8N+1 frames come out as asked."""


@dataclass(frozen=True)
class Geometry:
    width: int
    height: int
    num_frames: int
    channels: int
    padding: int
    """Latent frames put in front so that a 1.5 transformer's time patches fit; dropped before decoding."""

    time_stride: int
    stride: int

    @property
    def latent_frames(self) -> int:
        return (self.num_frames - 1) // self.time_stride + 1 + self.padding

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        return (1, self.latent_frames, self.channels, self.height // self.stride, self.width // self.stride)


def geometry_of(model: Model, transformer: Any, width: int, height: int, num_frames: int) -> Geometry:
    if width % 16 or height % 16 or num_frames % 8 != 1:
        raise UnrenderableGeometry(f"{width}x{height}, {num_frames} frames")
    time_stride = int(model.vae.config.temporal_compression_ratio)
    frames = (num_frames - 1) // time_stride + 1
    patch_t = transformer.config.patch_size_t
    return Geometry(
        width=width,
        height=height,
        num_frames=num_frames,
        channels=int(model.vae.config.latent_channels),
        padding=-frames % patch_t if patch_t else 0,
        time_stride=time_stride,
        stride=2 ** (len(model.vae.config.block_out_channels) - 1),
    )


def positions(transformer: Any, shape: Geometry, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Rotary positions; None for a 1.0 checkpoint that learned or adds its own."""
    config = transformer.config
    if not config.use_rotary_positional_embeddings:
        return None
    grid = (shape.height // (shape.stride * config.patch_size), shape.width // (shape.stride * config.patch_size))
    base = (config.sample_height // config.patch_size, config.sample_width // config.patch_size)
    if config.patch_size_t is None:
        crops = get_resize_crop_region_for_grid(grid, base[1], base[0])
        cos, sin = get_3d_rotary_pos_embed(
            config.attention_head_dim, crops, grid_size=grid, temporal_size=shape.latent_frames, device=device
        )
        return cos, sin
    cos, sin = get_3d_rotary_pos_embed(
        config.attention_head_dim,
        None,
        grid_size=grid,
        temporal_size=-(-shape.latent_frames // config.patch_size_t),
        grid_type="slice",
        max_size=base,
        device=device,
    )
    return cos, sin
