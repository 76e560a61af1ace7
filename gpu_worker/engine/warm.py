"""Before the first clip: kernels chosen, code compiled, one step of every mode taken. Only then is the engine ready."""

import logging
import time
from typing import Any

import torch

from gpu_worker.engine.geometry import Geometry, positions
from gpu_worker.engine.predict import Conditions
from gpu_worker.engine.render import Renderer
from gpu_worker.engine.text import encode_prompt
from video_jobs.catalogue import Catalogue, Checkpoint
from video_jobs.job import Quality, RenderPlan, VideoSpec

logger = logging.getLogger(__name__)


def warm_up(renderer: Renderer, catalogue: Catalogue, checkpoint: str) -> dict[str, float]:
    """The seconds of each part."""
    started = time.monotonic()
    renderer.tuned.choose_kernels()
    chosen = time.monotonic()
    plans = served_plans(catalogue, checkpoint)
    if renderer.tuned.is_compiled:
        _take_steps(renderer, plans)
    # Not compiled, or not any more.
    if not renderer.tuned.is_compiled:
        _take_steps(renderer, plans[:1])
    return {"kernels": round(chosen - started, 3), "warm-up": round(time.monotonic() - chosen, 3)}


def _take_steps(renderer: Renderer, plans: list[RenderPlan]) -> None:
    try:
        for plan in plans:
            for mode in renderer.model.transformers:
                _take_step_if_it_fits(renderer, plan, mode)
    except (OSError, RuntimeError) as exc:
        # The compiler's errors are RuntimeErrors of its own. Of several ranks the others wait in the middle of a step.
        if renderer.tuned.ranks or not renderer.tuned.is_compiled:
            raise
        renderer.tuned.stop_compiling(exc)


def _take_step_if_it_fits(renderer: Renderer, plan: RenderPlan, mode: str) -> None:
    if renderer.tuned.ranks and not renderer.fits(plan, mode):
        _tell_of(plan, mode)
        return
    try:
        renderer.with_room(plan, mode, lambda shape: take_step(renderer, plan, mode, shape))
    except torch.OutOfMemoryError:
        if renderer.tuned.ranks:
            # The others wait in the middle of this step.
            raise
        _tell_of(plan, mode)


def _tell_of(plan: RenderPlan, mode: str) -> None:
    """Shorter clips may well fit: the engine serves those."""
    clip = f"{plan.num_frames} frames at {plan.width}x{plan.height}"
    logger.warning("not warmed up: out of memory", extra={"clip": clip, "mode": mode})


def served_plans(catalogue: Catalogue, checkpoint: str) -> list[RenderPlan]:
    """The smallest clip and the largest: compiled code for both is code for all between."""
    native: Checkpoint = catalogue.checkpoints[checkpoint]
    sizes = sorted(native.native_sizes, key=lambda size: size[0] * size[1])
    ends = {(sizes[0], min(native.frames)), (sizes[-1], max(native.frames))}
    return [
        catalogue.plan(
            VideoSpec(model="", quality=quality, width=w, height=h, fps=native.fps, duration_s=seconds, seed=0),
            checkpoint,
        )
        for (w, h), seconds in sorted(ends)
        for quality in Quality
    ]


@torch.no_grad()
def take_step(renderer: Renderer, plan: RenderPlan, mode: str, shape: Geometry) -> torch.Tensor:
    """One prediction of nothing in particular."""
    model = renderer.model
    transformer: Any = model.transformers[mode]
    embeds = encode_prompt(model, "", plan.max_text_tokens)
    sample = torch.zeros(shape.latent_shape, device=model.device, dtype=embeds.dtype)
    given = Conditions(
        embeds, positions(transformer, shape, model.device), sample if mode == "i2v" else None, plan.guidance
    )
    with renderer.tuned.predictor(plan, mode, given, None) as predict:
        return predict(sample, torch.tensor(999, device=model.device), False)
