"""Room for a clip on the device: an estimate before it, and the next lower preset when it was wrong."""

import logging
from typing import Any

import torch

from gpu_worker.engine.geometry import Geometry
from gpu_worker.engine.load import free_bytes
from gpu_worker.engine.memory import GB, ClipSize, estimate, lower_than
from gpu_worker.engine.model import Model
from video_jobs.job import RenderPlan

logger = logging.getLogger(__name__)


def clip_size(plan: RenderPlan, shape: Geometry, transformer: Any) -> ClipSize:
    config = transformer.config
    frames = -(-shape.latent_frames // (config.patch_size_t or 1))
    cell = shape.stride * config.patch_size
    return ClipSize(
        width=shape.width,
        height=shape.height,
        num_frames=shape.num_frames,
        tokens=frames * (shape.height // cell) * (shape.width // cell) + plan.max_text_tokens,
        hidden=config.num_attention_heads * config.attention_head_dim,
        item_bytes=transformer.dtype.itemsize,
        caches=bool(plan.cache_threshold),
    )


def make_room(model: Model, plan: RenderPlan, shape: Geometry, transformer: Any) -> None:
    """Step down before the clip, not in its middle, if it will not fit."""
    available = device_bytes(model)
    if available is None:
        return
    clip = clip_size(plan, shape, transformer)
    while (peak := max(estimate(model.sizes(), clip, model.memory).values())) > available:
        logger.warning("clip will not fit", extra={"peak_gb": round(peak / GB, 1), "preset": model.memory.name})
        if not step_down(model):
            return
        settle_lower(model)


def device_bytes(model: Model) -> float | None:
    """What this process may use: what is free, and what it holds already."""
    free = free_bytes(model.device)
    return None if free is None else free + torch.cuda.memory_reserved(model.device)


def step_down(model: Model) -> bool:
    """Whether there is a lower preset; `settle_lower` goes there."""
    lower = lower_than(model.memory)
    logger.warning("out of memory", extra={"preset": model.memory.name, "next": lower.name if lower else None})
    return lower is not None


def settle_lower(model: Model) -> None:
    lower = lower_than(model.memory)
    if lower is not None:
        model.settle(lower)
