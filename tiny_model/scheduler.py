"""The noise schedule, as CogVideoX has it; the signal is weakened a little less than in a large picture."""

import torch
from diffusers import CogVideoXDDIMScheduler

from gpu_worker.engine.tiny import SCHEDULER as FULL_SIZE

SCHEDULER = FULL_SIZE | {"snr_shift_scale": 4.0}


def signal_and_noise() -> tuple[torch.Tensor, torch.Tensor]:
    """How much there is of each, at every time."""
    kept = CogVideoXDDIMScheduler(**SCHEDULER).alphas_cumprod
    return kept.sqrt(), (1 - kept).sqrt()
