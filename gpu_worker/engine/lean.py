"""Rendering with less device memory: slower, and for one clip only. Denoising computes the same bits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gpu_worker.engine.load import tile
from gpu_worker.engine.model import Model


@contextmanager
def lean(model: Model) -> Iterator[None]:
    """Parts visit the device in turn, and the decoder works in tiles."""
    was_offloaded, was_tiled = model.offload, model.vae.use_tiling
    parts = [model.text_encoder, model.vae, *model.transformers.values()]
    _place(parts, torch.device("cpu"))
    model.offload = True
    tile(model.vae)
    try:
        yield
    finally:
        model.offload = was_offloaded
        if not was_tiled:
            model.vae.disable_tiling()
        if not was_offloaded:
            _place(parts, model.device)


def _place(parts: list[torch.nn.Module], device: torch.device) -> None:
    for part in parts:
        part.to(device)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
