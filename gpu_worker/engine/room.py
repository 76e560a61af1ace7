"""Room for a clip on the device: the roomiest memory preset that its estimate fits in."""

import logging
from typing import Any

import torch

from gpu_worker.engine.geometry import Geometry
from gpu_worker.engine.load import free_bytes
from gpu_worker.engine.memory import GB, PRESETS, ClipSize, MemoryPreset, estimate, lower_than
from gpu_worker.engine.model import Model
from gpu_worker.engine.tune import Tuned
from video_jobs.job import RenderPlan

logger = logging.getLogger(__name__)


class Room:
    """Which preset each clip is rendered in. The roomiest is tried again for every clip until memory ran out in it."""

    def __init__(self, tuned: Tuned) -> None:
        self._tuned, self._model = tuned, tuned.model
        self._roomiest = self._model.memory

    def make(self, plan: RenderPlan, shape: Geometry, transformer: Any) -> None:
        """Step down before the clip, not in its middle, if it will not fit."""
        preset, available = self._roomiest, device_bytes(self._model)
        if available is not None:
            clip = clip_size(plan, shape, transformer)
            while (peak := max(estimate(self._tuned.sizes(), clip, preset).values())) > available:
                logger.warning("clip will not fit", extra={"peak_gb": round(peak / GB, 1), "preset": preset.name})
                lower = lower_than(preset)
                if lower is None:
                    break
                preset = lower
        self._settle(preset)

    def fits(self, plan: RenderPlan, shape: Geometry, transformer: Any) -> bool:
        available, clip = device_bytes(self._model), clip_size(plan, shape, transformer)
        return available is None or max(estimate(self._tuned.sizes(), clip, PRESETS[-1]).values()) <= available

    def has_less(self) -> bool:
        return lower_than(self._model.memory) is not None

    def step_down(self) -> None:
        """Memory ran out, whatever the estimate said."""
        self._roomiest = lower_than(self._model.memory) or self._model.memory
        logger.warning("out of memory", extra={"preset": self._model.memory.name, "next": self._roomiest.name})
        self._settle(self._roomiest)

    def _settle(self, preset: MemoryPreset) -> None:
        if preset != self._model.memory:
            self._tuned.settle(preset)


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


def device_bytes(model: Model) -> float | None:
    """What this process may use: what is free, and what it holds already."""
    free = free_bytes(model.device)
    return None if free is None else free + torch.cuda.memory_reserved(model.device)
