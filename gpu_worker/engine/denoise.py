"""Our own denoise loop: bit-identical to the stock pipelines, with a hook at every step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler

from video_jobs.catalogue import STEP_COUNTS

StepHook = Callable[["Latents"], None]
Predict = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
"""Of a sample, at a time, at the last step or not."""


@dataclass(frozen=True)
class Latents:
    """Where a clip stands after `step` steps."""

    sample: torch.Tensor
    step: int = 0
    previous_prediction: torch.Tensor | None = None


class Steps:
    """The schedule of one clip: it advances latents by one prediction."""

    def __init__(self, scheduler: Any, count: int, generator: torch.Generator, device: torch.device) -> None:
        if count not in STEP_COUNTS:
            raise ValueError(f"{count} steps do not land on alpha 1")
        scheduler.set_timesteps(count, device=device)
        self._scheduler = scheduler
        self._generator = generator
        self.timesteps: torch.Tensor = scheduler.timesteps

    def __len__(self) -> int:
        return len(self.timesteps)

    def advance(self, at: Latents, prediction: torch.Tensor) -> Latents:
        time, sample = self.timesteps[at.step], at.sample
        if not isinstance(self._scheduler, CogVideoXDPMScheduler):
            after = self._scheduler.step(
                prediction, time, sample, eta=0.0, generator=self._generator, return_dict=False
            )[0]
            return replace(at, sample=after.to(sample.dtype), step=at.step + 1)
        after, predicted = self._scheduler.step(
            prediction,
            at.previous_prediction,
            time,
            self.timesteps[at.step - 1] if at.step else None,
            sample,
            eta=0.0,
            generator=self._generator,
            return_dict=False,
        )
        return Latents(after.to(sample.dtype), at.step + 1, predicted)


@torch.no_grad()
def denoise(predict: Predict, start: Latents, steps: Steps, on_step: StepHook) -> Latents:
    """Run the remaining steps; `on_step` reports, or raises JobCancelled."""
    at = start
    while at.step < len(steps):
        prediction = predict(at.sample, steps.timesteps[at.step], at.step == len(steps) - 1)
        at = steps.advance(at, prediction)
        on_step(at)
    return at
