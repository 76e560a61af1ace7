"""Predicted device seconds of a plan: for fair shares, waiting times and weighted progress."""

from collections.abc import Mapping

from video_jobs.catalogue import Checkpoint
from video_jobs.job import RenderPlan, Stage

VAE_STRIDE, PATCH = 8, 2
ON_DEVICE = (Stage.TEXT, Stage.DENOISE, Stage.DECODE)
# Measured relations between stages; the forward pass itself is counted exactly.
DECODE_SHARE_OF_STEP = 4.0
FINISH_SECONDS_PER_OUT_MEGAPIXEL_FRAME = 0.015


def tokens(checkpoint: Checkpoint, plan: RenderPlan) -> int:
    """Video and text tokens of one forward pass."""
    latent_frames = (plan.num_frames - 1) // 4 + 1
    padded = -(-latent_frames // checkpoint.patch_t)
    cell = VAE_STRIDE * PATCH
    return padded * (plan.width // cell) * (plan.height // cell) + plan.max_text_tokens


def forward_tflop(checkpoint: Checkpoint, plan: RenderPlan) -> float:
    """Linear layers (24 n d²) and attention (4 n² d) of all blocks."""
    n, d = tokens(checkpoint, plan), checkpoint.hidden
    return checkpoint.layers * (24 * n * d * d + 4 * n * n * d) / 1e12


def stage_seconds(checkpoint: Checkpoint, plan: RenderPlan) -> dict[Stage, float]:
    """Predicted seconds of each stage. Guidance doubles every step."""
    step = 2 * forward_tflop(checkpoint, plan) / checkpoint.tflops
    out_megapixel_frames = plan.out_width * plan.out_height * plan.out_frames / 1e6
    return {
        Stage.PREPARE: 0.1,
        Stage.TEXT: 0.2,
        Stage.DENOISE: plan.steps * step,
        Stage.DECODE: max(1.0, DECODE_SHARE_OF_STEP * step),
        Stage.FINISH: FINISH_SECONDS_PER_OUT_MEGAPIXEL_FRAME * out_megapixel_frames,
        Stage.UPLOAD: 0.5,
    }


def device_seconds(checkpoint: Checkpoint, plan: RenderPlan) -> float:
    """What the job is charged: only the stages that hold the device."""
    seconds = stage_seconds(checkpoint, plan)
    return sum(seconds[stage] for stage in ON_DEVICE)


def measured_seconds(spent: Mapping[str, float]) -> float | None:
    """What the job really held the device for; None when nobody measured."""
    known = [spent[stage] for stage in ON_DEVICE if stage in spent]
    return sum(known) if known else None
