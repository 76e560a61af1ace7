"""Rendering with less device memory: slower, and for one clip only. Denoising computes the same bits."""

from collections.abc import Iterator
from contextlib import contextmanager

from gpu_worker.engine.memory import lower_than, preset_named, rank_of
from gpu_worker.engine.model import Model

VISITING = preset_named("24")


@contextmanager
def lean(model: Model) -> Iterator[None]:
    """Parts visit the device in turn, and the decoder works in tiles; lower still where that is so already."""
    before = model.memory
    is_roomy = rank_of(before) < rank_of(VISITING)
    model.settle(VISITING if is_roomy else lower_than(before) or before)
    try:
        yield
    finally:
        model.settle(before)
